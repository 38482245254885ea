"""Conversion under its lease: all or nothing, and never over somebody else's work."""

import asyncio
import threading

import pytest
from django.db import connection
from django.http import Http404
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from documents.conversion import convert, store
from documents.embedders import get_embedder
from documents.embedders.base import EmbeddingError
from documents.models import Chunk, Document
from leases import mutex
from leases.exceptions import LeaseLost
from leases.models import Hold, Lease
from leases.turn import Turn
from tests.database import query
from tests.documents.embedding_server import Answer, EmbeddingServer, Request, embeddings
from tests.leases.clock import let_pass

pytestmark = pytest.mark.usefixtures("leases")

SERVICE = "vector-convert"
LONG = "\n\n".join(f"Paragraph {n}. " + "Some words about nothing in particular. " * 30 for n in range(40))


def saved(text: str = LONG) -> Document:
    return store(
        Document(owner="ann", title="t", content_type="text", text=text, file_size=1, word_count=1, pages=[])
    )


def state(document: Document) -> tuple[str, list[tuple[int, bytes | None]]]:
    fresh = Document.objects.get(pk=document.pk)
    vectors = fresh.chunks.order_by("index").values_list("id", "vector")
    return fresh.embedding_model, [
        (pk, None if vector is None else vector.tobytes()) for pk, vector in vectors
    ]


def unit(request: Request) -> Answer:
    return embeddings([[1.0, float(len(text)), 0.5] for text in request.question["input"]])


def outcomes() -> list[str]:
    return list(Hold.objects.order_by("id").values_list("outcome", flat=True))


async def test_the_vectors_of_a_new_model_take_the_place_of_the_old_ones(settings: Settings) -> None:
    document = await query(saved)
    await convert(document, "ann")
    assert (await query(state, document))[0] == "all-MiniLM-L6-v2-f32"
    async with EmbeddingServer(unit) as server:
        settings.EMBEDDING_BASE_URL, settings.EMBEDDING_MODEL = server.url, "tiny"
        conversion = await convert(await query(Document.objects.get, pk=document.pk), "ann")
    assert (conversion.dimensions, conversion.unchanged) == (3, False)
    model, vectors = await query(state, document)
    assert model == "tiny"
    assert len(vectors) == conversion.chunks
    assert all(vector is not None and len(vector) == 12 for _, vector in vectors)


async def test_a_failed_conversion_leaves_the_old_vectors_whole(settings: Settings) -> None:
    document = await query(saved)
    await convert(document, "ann")
    before = await query(state, document)
    batches = 0

    def fails_in_the_middle(request: Request) -> Answer:
        nonlocal batches
        batches += 1
        return unit(request) if batches < 3 else Answer(b"{}", status=500)

    async with EmbeddingServer(fails_in_the_middle) as server:
        settings.EMBEDDING_BASE_URL, settings.EMBEDDING_MODEL = server.url, "tiny"
        with pytest.raises(EmbeddingError):
            await convert(await query(Document.objects.get, pk=document.pk), "ann")
    assert batches == 3
    assert await query(state, document) == before
    assert await query(outcomes) == ["released", "released"]


async def test_a_forced_end_stops_the_work_and_changes_nothing(settings: Settings) -> None:
    settings.LEASE_TTL, settings.LEASE_HEARTBEAT = 3.0, 0.1
    document = await query(saved)
    before = await query(state, document)

    def force() -> None:
        lease = Lease.objects.get(service=SERVICE)
        assert lease.session_id is not None
        assert mutex.force_release(SERVICE, lease.session_id, by="ops", reason="needed")

    async with EmbeddingServer(lambda request: Answer(b"", missing=1, stalled=True)) as server:
        settings.EMBEDDING_BASE_URL, settings.EMBEDDING_MODEL = server.url, "tiny"
        converting = asyncio.create_task(convert(document, "ann"))
        await server.arrived()
        await query(force)
        with pytest.raises(LeaseLost, match="administrator"):
            await asyncio.wait_for(converting, 10)
    assert await query(state, document) == before


async def test_a_conversion_that_wakes_up_late_writes_nothing(settings: Settings) -> None:
    """The lease passes to somebody else while the last batch is on its way back."""
    document = await query(saved, "One short paragraph.")
    before = await query(state, document)

    def pass_on() -> None:
        try:
            let_pass(31, SERVICE)
            mutex.acquire(SERVICE, "bob")
        finally:
            connection.close()

    def slow(request: Request) -> Answer:
        thread = threading.Thread(target=pass_on)  # the server's loop waits for it, and so does the converter
        thread.start()
        thread.join()
        return unit(request)

    async with EmbeddingServer(slow) as server:
        settings.EMBEDDING_BASE_URL, settings.EMBEDDING_MODEL = server.url, "tiny"
        with pytest.raises(LeaseLost):
            await convert(document, "ann")
    assert await query(state, document) == before
    assert (await query(Lease.objects.get, service=SERVICE)).owner == "bob"


async def test_a_document_deleted_meanwhile_is_not_brought_back(settings: Settings) -> None:
    document = await query(saved)
    await query(Document.objects.filter(pk=document.pk).delete)
    with pytest.raises(Http404):
        await convert(document, "ann")
    assert not await query(Chunk.objects.exists)
    assert await query(outcomes) == ["released"]


def test_chunks_are_written_in_batches_and_not_one_by_one() -> None:
    with CaptureQueriesContext(connection) as few:
        saved("One short paragraph.")
    with CaptureQueriesContext(connection) as many:
        saved(LONG)
    assert len(many) == len(few)


async def test_progress_is_told_in_chunks() -> None:
    told: list[tuple[str, dict[str, int]]] = []
    conversion = await convert(await query(saved), "ann", Turn(tell=lambda *event: told.append(event)))
    assert [name for name, _ in told[:2]] == ["started", "progress"]
    progress = [data for name, data in told if name == "progress"]
    assert [data["total"] for data in progress] == [conversion.chunks] * len(progress)
    done = [data["done"] for data in progress]
    assert (done[0], done[-1]) == (0, conversion.chunks)
    assert done == sorted(done)
    assert len(set(done)) > 2


async def test_a_document_converted_while_its_next_conversion_waited_is_not_converted_again() -> None:
    document = await query(saved)
    holder = await query(mutex.acquire, SERVICE, "bob")
    queued = asyncio.Event()
    waiting = asyncio.create_task(convert(document, "ann", Turn(wait=30, tell=lambda *_: queued.set())))
    await asyncio.wait_for(queued.wait(), 10)
    model = get_embedder().model
    await query(
        Document.objects.filter(pk=document.pk).update, embedding_model=model, embedding_dimensions=384
    )
    await query(mutex.release, holder)
    conversion = await asyncio.wait_for(waiting, 10)
    assert conversion.unchanged
    assert not await query(Chunk.objects.filter(vector__isnull=False).exists)

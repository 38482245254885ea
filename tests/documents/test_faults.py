"""What callers and the lease see when the embedding engine misbehaves: a real server, a scripted engine."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager

import httpx
import pytest

from leases.models import Hold
from tests.database import query
from tests.documents.embedding_server import Answer, EmbeddingServer
from tests.server import client_of_server, free_port

pytestmark = pytest.mark.usefixtures("leases")

TEXT = {"title": "t", "content": "Some words about nothing in particular."}


def site(base_url: str, **environment: str) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    return client_of_server(EMBEDDING_BASE_URL=base_url, EMBEDDING_MODEL="scripted", **environment)


async def convert(client: httpx.AsyncClient) -> httpx.Response:
    document_id = (await client.post("/api/RAG/upload", json=TEXT)).json()["documentId"]
    return await client.post("/api/vector-convert-llm/process-document", json={"document_id": document_id})


def outcomes() -> list[str]:
    return list(Hold.objects.values_list("outcome", flat=True))


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer(b"{}", status=500), 502),
        (Answer(b"nonsense"), 502),
        (Answer(b"", missing=100), 502),
        (Answer(b"", missing=1, stalled=True), 504),
    ],
)
async def test_a_fault_of_the_engine_is_told_and_frees_the_service(answer: Answer, status: int) -> None:
    async with (
        EmbeddingServer(lambda request: answer) as engine,
        site(engine.url, EMBEDDING_TIMEOUT="0.5") as client,
    ):
        response = await convert(client)
        assert response.status_code == status, response.text
        assert response.json()["success"] is False
        assert isinstance(response.json()["details"], str)
        assert not response.json().get("serviceUnavailable")
        assert await query(outcomes) == ["released"]
        found = await client.get("/api/RAG/search", params={"q": "words"})
        assert (found.status_code, found.json()["searchType"]) == (200, "keyword")
        assert len(found.json()["results"]) == 1


async def test_an_absent_engine_is_told_and_frees_the_service() -> None:
    async with site(f"http://127.0.0.1:{free_port()}/v1") as client:
        assert (await convert(client)).status_code == 502
        assert await query(outcomes) == ["released"]


async def test_requests_that_wait_for_an_engine_keep_no_connection_to_the_database() -> None:
    """More of them than the pool has connections; everybody else goes on as if they were not there."""
    stalled = Answer(b"", missing=1, stalled=True)
    async with (
        EmbeddingServer(lambda request: stalled) as engine,
        site(engine.url, EMBEDDING_TIMEOUT="8") as client,
    ):
        document_id = (await client.post("/api/RAG/upload", json=TEXT)).json()["documentId"]
        asked = {"query": "words", "documentIds": [document_id]}
        waiting = [asyncio.create_task(client.post("/api/RAG/search", json=asked)) for _ in range(24)]
        async with asyncio.timeout(8):
            while len(engine.requests) < 24:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        began = time.monotonic()
        assert (await client.get("/api/services/status")).status_code == 200
        assert (await client.get("/api/RAG/documents")).status_code == 200
        print(f"two reads beside 24 waiting searches took {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 5
        assert {response.status_code for response in await asyncio.gather(*waiting)} == {200}

"""A conversion as a stream of events: a real server with the real embedding model."""

import asyncio

import pytest

from documents.models import Chunk
from leases import mutex
from leases.models import Hold, Lease
from tests.chat.test_streams import EVENTS, events
from tests.database import query
from tests.server import client_of_server

pytestmark = pytest.mark.usefixtures("leases")

ROUTE = "/api/vector-convert-llm/process-document"
TEXT = "\n\n".join(f"Paragraph {n}. " + "Some words about nothing in particular. " * 30 for n in range(60))


async def test_progress_comes_before_the_whole_answer_and_a_reader_who_goes_ends_it() -> None:
    async with client_of_server() as client:
        body = {"title": "Long", "content": TEXT, "contentType": "text"}
        document_id = (await client.post("/api/RAG/upload", json=body)).json()["documentId"]
        asked = {"document_id": document_id}

        async with client.stream("POST", ROUTE, json=asked, headers=EVENTS) as response:
            async for name, data in events(response):
                if name == "progress" and data["done"]:
                    break
        async with asyncio.timeout(10):
            while await query(Lease.objects.live().exists):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert not await query(Chunk.objects.filter(vector__isnull=False).exists)

        async with client.stream("POST", ROUTE, json=asked, headers=EVENTS) as response:
            said = [event async for event in events(response)]
        names = [name for name, _ in said]
        assert names[0] == "started"
        assert names[-1] == "done"
        progress = [data for name, data in said if name == "progress"]
        assert progress[0]["done"] == 0
        assert progress[-1]["done"] == progress[-1]["total"] == said[-1][1]["total_chunks"]
        assert said[-1][1]["chunks_saved"] == said[-1][1]["total_chunks"]

        async with client.stream("POST", ROUTE, json=asked, headers=EVENTS) as response:
            again = [event async for event in events(response)]
        assert [name for name, _ in again] == ["done"]
        assert again[0][1]["unchanged"] is True
        assert await query(lambda: list(Hold.objects.values_list("outcome", flat=True))) == ["released"] * 2


async def test_a_stream_that_cannot_begin_has_its_true_status() -> None:
    async with client_of_server() as client:
        body = {"title": "Short", "content": "A word.", "contentType": "text"}
        document_id = (await client.post("/api/RAG/upload", json=body)).json()["documentId"]
        await query(mutex.acquire, "vector-convert", "bob")
        for asked, status in (({"document_id": document_id}, 503), ({"document_id": "0"}, 404), ({}, 400)):
            response = await client.post(ROUTE, json=asked, headers=EVENTS)
            assert response.status_code == status
            assert response.json()["success"] is False

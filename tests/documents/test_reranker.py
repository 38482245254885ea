"""A reranking server orders what was found, and a search does not depend on it."""

import asyncio
import json
import logging
from collections.abc import Sequence
from time import monotonic
from typing import Any

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from documents.models import Document
from documents.reranker import MAX_ANSWER_BYTES, RerankError, order
from documents.search import RERANKED, Found, find
from tests.database import query
from tests.documents.embedding_server import Answer, EmbeddingServer, Request
from tests.documents.test_search import document
from tests.server import free_port

SECRET = "the key"
FISH = [f"Fish number {n} swims in the lake." for n in range(RERANKED + 6)]


def relevances(values: Sequence[Any], first: int = 0) -> Answer:
    results = [{"index": first + n, "relevance_score": value} for n, value in enumerate(values)]
    return Answer(json.dumps({"model": "scripted", "results": results}).encode())


def the_last_is_best(request: Request) -> Answer:
    return relevances(range(len(request.question["documents"])))


def put(settings: Settings, server: EmbeddingServer) -> None:
    settings.RERANK_BASE_URL = server.url


def stored(*texts: str) -> None:
    """One document a text, so that each is a passage of its own."""
    for text in texts:
        document([text], None)


async def fish(limit: int) -> Found:
    return await find("ann", "fish in the lake", document_ids=None, limit=limit)


def texts(found: Found) -> list[str]:
    return [hit.chunk.text for hit in found.hits]


@pytest.mark.usefixtures("leases")
class TestSearch:
    async def test_the_reranker_decides_the_order(self, settings: Settings) -> None:
        await query(stored, *FISH[:5])
        before = await fish(10)
        async with EmbeddingServer(the_last_is_best) as server:
            put(settings, server)
            after = await fish(10)
        assert len(texts(before)) == 5
        assert texts(after) == texts(before)[::-1]
        (request,) = server.requests
        assert request.target == "/v1/rerank"
        assert request.question == {"query": "fish in the lake", "documents": texts(before)}

    async def test_it_reads_passages_and_scores_belong_to_ranks(self, settings: Settings) -> None:
        await query(document, ["Fish.", "They swim in the lake."], None)
        await query(stored, "A lake.", "A fish.")
        before = await fish(10)
        async with EmbeddingServer(the_last_is_best) as server:
            put(settings, server)
            after = await fish(10)
        read = server.requests[0].question["documents"]
        assert "Fish.\nThey swim in the lake." in read
        assert [hit.passage for hit in after.hits] == read[::-1]
        assert [hit.score for hit in after.hits] == [hit.score for hit in before.hits]

    async def test_what_is_best_is_looked_for_among_more_than_are_wanted(self, settings: Settings) -> None:
        await query(stored, *FISH)
        before = texts(await fish(len(FISH)))
        async with EmbeddingServer(the_last_is_best) as server:
            put(settings, server)
            one = texts(await fish(1))
            everything = texts(await fish(len(FISH)))
        assert [len(request.question["documents"]) for request in server.requests] == [RERANKED, RERANKED]
        assert one == [before[RERANKED - 1]]
        assert everything == before[:RERANKED][::-1] + before[RERANKED:]

    async def test_nothing_is_asked_where_there_is_nothing_to_order(self, settings: Settings) -> None:
        await query(stored, "A fish.")
        async with EmbeddingServer(the_last_is_best) as server:
            put(settings, server)
            assert texts(await fish(3)) == ["A fish."]
            assert texts(await find("ann", "zebra", document_ids=None, limit=3)) == []
        assert server.requests == []

    async def test_without_it_all_stays_as_it_was_and_the_log_says_why(
        self, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        await query(stored, *FISH[:3])
        before = await fish(2)
        settings.RERANK_BASE_URL = f"http://127.0.0.1:{free_port()}"
        with caplog.at_level(logging.ERROR):
            assert texts(await fish(2)) == texts(before)
        (record,) = [one for one in caplog.records if one.name == "documents.search"]
        assert "RERANK_BASE_URL" in str(record.exc_info)

    @pytest.mark.parametrize("route", ["search", "chat"])
    async def test_people_meet_its_order(self, settings: Settings, route: str) -> None:
        api = APIClient()

        def ask() -> list[str]:
            if route == "search":
                answer = api.get("/api/RAG/search", {"q": "fish in the lake"}).json()
                return [hit["snippet"] for hit in answer["results"]]
            ids = [str(pk) for pk in Document.objects.values_list("pk", flat=True)]
            asked = {"message": "fish in the lake", "documentIds": ids, "max_length": 1}
            answer = api.post("/api/RAG/chat", asked, format="json").json()
            return [source["snippet"] for source in answer["sources"]]

        def upload() -> None:
            for text in FISH[:3]:
                sent = {"title": "t", "content": text, "contentType": "text"}
                assert api.post("/api/RAG/upload", sent, format="json").status_code == 201

        await query(upload)
        before = await query(ask)
        async with EmbeddingServer(the_last_is_best) as server:
            put(settings, server)
            assert await query(ask) == before[::-1]
        assert len(before) == 3


class TestServer:
    async def test_most_relevant_first_whatever_the_scale(self, settings: Settings) -> None:
        async with EmbeddingServer(lambda _: relevances([-7.5, 3, -0.1])) as server:
            put(settings, server)
            assert await order("?", ["a", "b", "c"]) == [1, 2, 0]

    async def test_of_equals_the_first_stays_first_and_unmentioned_ones_are_last(
        self, settings: Settings
    ) -> None:
        async with EmbeddingServer(lambda _: relevances([0.5, 0.5], first=1)) as server:
            put(settings, server)
            assert await order("?", ["a", "b", "c", "d"]) == [1, 2, 0, 3]

    async def test_model_and_key_are_sent_where_they_are_set(self, settings: Settings) -> None:
        settings.RERANK_MODEL, settings.RERANK_API_KEY = "a-model", SECRET
        async with EmbeddingServer(the_last_is_best) as server:
            settings.RERANK_BASE_URL = f"{server.url}/"
            await order("?", ["a"])
        (request,) = server.requests
        assert request.target == "/v1/rerank"
        assert request.headers["authorization"] == f"Bearer {SECRET}"
        assert request.question == {"model": "a-model", "query": "?", "documents": ["a"]}

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"no JSON",
            b"[]",
            b"{}",
            b'{"results": []}',
            b'{"results": null}',
            b'{"results": [{"index": 0}]}',
            b'{"results": [{"index": 2, "relevance_score": 1}]}',
            b'{"results": [{"index": -1, "relevance_score": 1}]}',
            b'{"results": [{"index": 0, "relevance_score": NaN}]}',
            b'{"results": [{"index": 0, "relevance_score": 1e999}]}',
            b'{"results": [{"index": 1e999, "relevance_score": 1}]}',
            b'{"results": [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 2}]}',
            b'{"results": ["no object"]}',
            b"[" * 100_000,
            b" " * (MAX_ANSWER_BYTES + 1),
        ],
        ids=range(16),
    )
    async def test_nonsense_is_no_order(self, settings: Settings, body: bytes) -> None:
        async with EmbeddingServer(lambda _: Answer(body)) as server:
            put(settings, server)
            with pytest.raises(RerankError, match="RERANK_BASE_URL"):
                await order("?", ["a", "b"])

    @pytest.mark.parametrize("answer", [Answer(SECRET.encode(), status=401), Answer(b"{", missing=9)])
    async def test_refusals_and_broken_answers_repeat_nothing(
        self, settings: Settings, answer: Answer
    ) -> None:
        settings.RERANK_API_KEY = SECRET
        async with EmbeddingServer(lambda _: answer) as server:
            put(settings, server)
            with pytest.raises(RerankError, match="RERANK_BASE_URL") as raised:
                await order("a private question", ["a private text"])
        assert SECRET not in str(raised.value)
        assert "private" not in str(raised.value)

    async def test_nobody_waits_for_it_longer_than_said(self, settings: Settings) -> None:
        settings.RERANK_TIMEOUT = 0.2
        async with EmbeddingServer(lambda _: Answer(b"", missing=9, stalled=True)) as server:
            put(settings, server)
            began = monotonic()
            with pytest.raises(RerankError, match=r"within 0\.2 seconds"):
                await order("?", ["a", "b"])
        assert monotonic() - began < 5

    @pytest.mark.parametrize("base_url", ["nonsense", "ftp://127.0.0.1/", "http://[", "http://a b/"])
    async def test_what_is_no_address_is_said(self, settings: Settings, base_url: str) -> None:
        settings.RERANK_BASE_URL = base_url
        with pytest.raises(RerankError, match="RERANK_BASE_URL"):
            await order("?", ["a", "b"])

    async def test_a_key_of_two_lines_is_said(self, settings: Settings) -> None:
        async with EmbeddingServer(the_last_is_best) as server:
            put(settings, server)
            settings.RERANK_API_KEY = "one\ntwo"
            with pytest.raises(RerankError, match="RERANK_API_KEY is a single line"):
                await order("?", ["a", "b"])
        assert server.requests == []

    async def test_who_gives_up_leaves_nothing_behind(self, settings: Settings) -> None:
        async with EmbeddingServer(lambda _: Answer(b"", missing=9, stalled=True)) as server:
            put(settings, server)
            asking = asyncio.create_task(order("?", ["a", "b"]))
            await server.arrived()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

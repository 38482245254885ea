import asyncio
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_django import Settings

from documents.embedders import get_embedder
from documents.embedders.base import Embedder, EmbeddingError, EmbeddingTimeout, Health
from documents.embedders.in_process import InProcessEmbedder
from documents.embedders.minilm import MiniLM
from documents.embedders.openai_compatible import MAX_ANSWER_BYTES, OpenAICompatibleEmbedder
from documents.tokenizer import model_directory
from tests.documents.embedding_server import Answer, EmbeddingServer, Request, embeddings

FOOD = "A man is eating food."
BREAD = "A man is eating a piece of bread."
LEASE = "The lease expires at noon; nobody renewed it."
MIXED = "Größe: 5 µm — naïve café, 東京 🙂"

# The first eight components and all pairs' cosines, from sentence-transformers 6.2 on PyTorch 2.13.
REFERENCE = {
    FOOD: [0.033242, 0.004406, -0.006277, 0.048379, -0.138702, -0.033617, 0.101128, -0.054385],
    BREAD: [0.052518, 0.055241, -0.011188, -0.005745, -0.127208, -0.022252, 0.076879, 0.013185],
    LEASE: [0.044146, 0.036996, 0.034660, 0.021322, -0.028647, -0.030208, -0.090426, -0.065880],
    MIXED: [0.074884, 0.041525, 0.055606, 0.000358, -0.034828, -0.016513, 0.062755, 0.027289],
}
REFERENCE_COSINES = [
    [1.000000, 0.755337, -0.066657, 0.054844],
    [0.755337, 1.000000, -0.079974, 0.074233],
    [-0.066657, -0.079974, 1.000000, 0.032877],
    [0.054844, 0.074233, 0.032877, 1.000000],
]

HOSTILE = [
    "",
    " \t\n",
    "\x00",
    "nul\x00inside",
    "\ud800",
    "a lone \udfff surrogate",
    "🙂" * 700,
    "x" * 100_000,
    " " * 100_000,
    "a\u0301" * 5_000,
    "\u202eright to left\u202c",
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
]


@pytest.fixture(scope="module")
def built_in() -> InProcessEmbedder:
    return InProcessEmbedder()


class TestBuiltIn:
    async def test_vectors_are_those_of_the_reference(self, built_in: InProcessEmbedder) -> None:
        vectors = await built_in.embed(list(REFERENCE))

        assert vectors.dtype == np.float32
        assert vectors.shape == (4, 384)
        np.testing.assert_allclose(vectors[:, :8], list(REFERENCE.values()), atol=2e-6)
        np.testing.assert_allclose(vectors @ vectors.T, REFERENCE_COSINES, atol=2e-6)

    async def test_well_known_cosine(self, built_in: InProcessEmbedder) -> None:
        food, bread = await built_in.embed([FOOD, BREAD])

        assert food @ bread == pytest.approx(0.7553, abs=5e-5)

    async def test_neighbours_do_not_change_a_vector(self, built_in: InProcessEmbedder) -> None:
        texts = ["word " * length for length in (300, 1, 250, 2, 60, 7)] + list(REFERENCE)
        together = await built_in.embed(texts)

        alone = [(await built_in.embed([text]))[0] for text in texts]
        np.testing.assert_allclose(together, alone, atol=1e-5)

    async def test_hostile_strings_have_unit_vectors(self, built_in: InProcessEmbedder) -> None:
        vectors = await built_in.embed(HOSTILE)

        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    async def test_text_beyond_the_window_does_not_count(self, built_in: InProcessEmbedder) -> None:
        window = "lease " * 510  # with [CLS] and [SEP] 512 tokens
        exact, longer, shorter = await built_in.embed([window, window + "bread " * 5_000, "lease " * 509])

        np.testing.assert_allclose(exact, longer, atol=1e-6)
        assert np.abs(exact - shorter).max() > 1e-5

    async def test_batches_are_small_and_cover_everything_once(self, built_in: InProcessEmbedder) -> None:
        texts = [f"number {number} " * (number % 5 + 1) for number in range(3 * built_in.batch_size + 1)]
        batches = [batch async for batch in built_in.batches(texts)]

        assert len(batches) == 4
        assert sorted(place for batch in batches for place in batch.positions) == list(range(len(texts)))
        lengths = [len(texts[place]) for batch in batches for place in batch.positions]
        assert lengths == sorted(lengths, reverse=True)

    async def test_cancellation_is_heard_between_batches(self, built_in: InProcessEmbedder) -> None:
        await built_in.warm_up()
        first = asyncio.Event()
        done: list[int] = []

        async def convert() -> None:
            async for batch in built_in.batches(["lease holder " * 120] * 10_000):
                done.extend(batch.positions)
                first.set()

        conversion = asyncio.create_task(convert())
        await asyncio.wait_for(first.wait(), 30)
        conversion.cancel()
        with pytest.raises(asyncio.CancelledError):
            await conversion
        (vector,) = await asyncio.wait_for(built_in.embed([FOOD]), 30)

        np.testing.assert_allclose(vector[:8], REFERENCE[FOOD], atol=2e-6)
        assert len(done) < 1_000

    def test_one_model_however_many_threads_ask_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loads: list[Path] = []

        class Counted(MiniLM):
            def __init__(self, directory: Path) -> None:
                loads.append(directory)
                super().__init__(directory)

        monkeypatch.setattr("documents.embedders.in_process.MiniLM", Counted)
        embedder = InProcessEmbedder()
        start = threading.Barrier(8)
        vectors: list[NDArray[np.float32]] = []

        def ask() -> None:
            start.wait()
            vectors.append(asyncio.run(embedder.embed([FOOD])))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(loads) == 1
        np.testing.assert_array_equal(np.concatenate(vectors), np.repeat(vectors[0], 8, axis=0))

    @pytest.mark.parametrize("fault", ["absent", "empty", "cut off", "no model"])
    async def test_unreadable_model_is_an_embedding_error(
        self, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        weights = (model_directory() / "model.safetensors").read_bytes()
        if fault != "absent":
            broken = {
                "empty": b"",
                "cut off": weights[: len(weights) // 2],
                "no model": b"\x02" + bytes(7) + b"{}",
            }
            (tmp_path / "model.safetensors").write_bytes(broken[fault])
        monkeypatch.setattr("documents.embedders.in_process.model_directory", lambda: tmp_path)
        embedder = InProcessEmbedder()

        with pytest.raises(EmbeddingError, match="could not be loaded"):
            await embedder.warm_up()
        assert not embedder.health().ready

    async def test_health(self) -> None:
        embedder = InProcessEmbedder()
        await embedder.warm_up()

        assert embedder.health() == Health(ready=True, model="all-MiniLM-L6-v2-f32", error=None)

    @pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
    async def test_memory_does_not_grow_with_the_work(self, built_in: InProcessEmbedder) -> None:
        await built_in.embed(["lease holder " * 300] * 8)
        before = resident_bytes()
        await built_in.embed(["lease holder " * 300] * 24)

        assert resident_bytes() - before < 64 * 1024 * 1024


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Fixed(Embedder):
    """Gives back the same vectors, whatever the texts."""

    model = "fixed"
    method = "test"

    def __init__(self, vectors: Sequence[NDArray[Any]], batch_size: int = 2) -> None:
        self.batch_size = batch_size
        self._left = iter(vectors)

    async def warm_up(self) -> None:
        pass

    async def _vectors(self, texts: Sequence[str]) -> NDArray[np.floating]:
        return next(self._left)


class TestEveryEmbedder:
    async def test_no_texts(self) -> None:
        embedder = Fixed([])

        assert (await embedder.embed([])).shape == (0, 0)
        assert [batch async for batch in embedder.batches([])] == []

    async def test_order_is_that_of_the_texts(self) -> None:
        (tens, ones) = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[-1.0, 0.0]])
        vectors = await Fixed([tens, ones]).embed(["a", "long" * 9, "long" * 5])

        assert vectors.tolist() == [[-1, 0], [1, 0], [0, 1]]

    async def test_any_length_becomes_one(self) -> None:
        vectors = await Fixed([np.array([[3e200, 4e200], [3e-200, -4e-200]])]).embed(["a", "b"])

        np.testing.assert_allclose(vectors, [[0.6, 0.8], [0.6, -0.8]], atol=1e-6)

    @pytest.mark.parametrize(
        "vectors",
        [
            np.array([[0.0, 0.0], [1.0, 0.0]]),
            np.array([[np.nan, 0.0], [1.0, 0.0]]),
            np.array([[np.inf, 0.0], [1.0, 0.0]]),
            np.array([[-np.inf, 0.0], [1.0, 0.0]]),
            np.array([[1.0, 0.0]]),
            np.array([[1.0, 0.0]] * 3),
            np.array([1.0, 0.0]),
            np.empty((2, 0)),
        ],
        ids=["zero", "nan", "inf", "-inf", "too few", "too many", "flat", "empty"],
    )
    async def test_nonsense_is_refused_and_remembered(self, vectors: NDArray[Any]) -> None:
        embedder = Fixed([vectors, np.array([[1.0, 0.0]])])

        with pytest.raises(EmbeddingError) as caught:
            await embedder.embed(["a", "b"])
        assert embedder.health() == Health(ready=False, model="fixed", error=str(caught.value))
        await embedder.embed(["a"])
        assert embedder.health() == Health(ready=True, model="fixed", error=None)

    async def test_dimensions_may_not_change_between_batches(self) -> None:
        with pytest.raises(EmbeddingError, match=r"shape \(2, 3\) where \(2, 2\)"):
            await Fixed([np.ones((2, 2)), np.ones((2, 3))]).embed(list("abcd"))


SECRET = "sk-very-secret"
PRIVATE = "the merger is on Tuesday"


def by_length(request: Request) -> Answer:
    """Vectors from which the text can be told."""
    return embeddings([[len(text), 1.0] for text in request.question["input"]])


def embedder_of(server: EmbeddingServer, timeout: float = 30) -> OpenAICompatibleEmbedder:
    return OpenAICompatibleEmbedder(server.url, "some-model", SECRET, timeout)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddingServer]:
    async with EmbeddingServer(by_length) as running:
        yield running


def damaged(**changes: Any) -> Callable[[Request], Answer]:
    """An answer for one text that is right but for `changes` in its only item."""
    return lambda _: Answer(json.dumps({"data": [{"index": 0, "embedding": [1.0, 2.0]} | changes]}).encode())


def sent(body: bytes, **how: Any) -> Callable[[Request], Answer]:
    return lambda _: Answer(body, **how)


FAULTS: dict[str, Callable[[Request], Answer]] = {
    "not JSON": sent(b"<html>hello</html>"),
    "not UTF-8": sent(b"\xff\xfe\xfa"),
    "empty": sent(b""),
    "half of it": sent(b'{"data": [{"index": 0, "embedding": [1.0,'),
    "cut off": sent(b'{"data": [{"index": 0, "embe', missing=100),
    "nested too deeply": sent(b"[" * 100_000),
    "another type": sent(b"7"),
    "no data": sent(b"{}"),
    "data of another type": sent(b'{"data": 5}'),
    "items of another type": sent(b'{"data": [5]}'),
    "no vector": sent(b'{"data": [{"index": 0}]}'),
    "no items": sent(b'{"data": []}'),
    "an item too many": lambda _: embeddings([[1.0], [1.0]]),
    "another index": damaged(index=1),
    "index of another type": damaged(index=[]),
    "empty vector": damaged(embedding=[]),
    "vector of text": damaged(embedding=["1.0", "2.0"]),
    "vector as text": damaged(embedding="AACAPw=="),
    "vector of null": damaged(embedding=[None, 1.0]),
    "vector of vectors": damaged(embedding=[[1.0], [2.0]]),
    "vector is null": damaged(embedding=None),
    "zeros": damaged(embedding=[0.0, 0.0]),
    "nan": damaged(embedding=[float("nan"), 1.0]),
    "infinity": damaged(embedding=[float("inf"), 1.0]),
    "number too large": sent(b'{"data": [{"index": 0, "embedding": [1e999, 1]}]}'),
    "integer too large": sent(b'{"data": [{"index": 0, "embedding": [' + b"9" * 400 + b", 1]}]}"),
    "integer far too large": sent(b'{"data": [{"index": 0, "embedding": [' + b"9" * 9_000 + b", 1]}]}"),
    "endless": sent(b" " * (MAX_ANSWER_BYTES + 1), missing=1, stalled=True),
    **{
        f"status {status}": sent(f"{SECRET} {PRIVATE}".encode(), status=status)
        for status in (204, 302, 400, 401, 403, 404, 413, 422, 429, 500, 502, 503)
    },
}


class TestServer:
    async def test_protocol(self, server: EmbeddingServer) -> None:
        vectors = await embedder_of(server).embed(["ab", "a", ""])

        expected = np.array([[2, 1], [1, 1], [0, 1]]) / np.sqrt([[5], [2], [1]])
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
        (request,) = server.requests
        assert request.target == "/v1/embeddings"
        assert request.headers["authorization"] == f"Bearer {SECRET}"
        assert request.question == {"model": "some-model", "input": ["ab", "a", ""]}

    async def test_no_key_no_header(self, server: EmbeddingServer) -> None:
        await OpenAICompatibleEmbedder(f"{server.url}/", "some-model", "", 30).embed(["a"])

        assert server.requests[0].target == "/v1/embeddings"
        assert "authorization" not in server.requests[0].headers

    async def test_index_decides_the_order(self, server: EmbeddingServer) -> None:
        server.script = sent(
            b'{"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [2, 0]}]}'
        )

        assert (await embedder_of(server).embed(["ab", "a"])).tolist() == [[1, 0], [0, 1]]

    async def test_many_texts_go_in_batches(self, server: EmbeddingServer) -> None:
        texts = ["x" * length for length in range(40)]
        vectors = await embedder_of(server).embed(texts)

        assert [len(request.question["input"]) for request in server.requests] == [16, 16, 8]
        np.testing.assert_allclose(vectors[:, 0] / vectors[:, 1], range(40), rtol=1e-5)

    async def test_hostile_strings_arrive(self, server: EmbeddingServer) -> None:
        await embedder_of(server).embed(HOSTILE)

        arrived = [text for request in server.requests for text in request.question["input"]]
        assert sorted(arrived) == sorted(text.encode(errors="replace").decode() for text in HOSTILE)

    async def test_mixed_dimensions(self, server: EmbeddingServer) -> None:
        server.script = lambda _: embeddings([[1.0, 2.0], [1.0]])

        with pytest.raises(EmbeddingError):
            await embedder_of(server).embed(["a", "b"])

    @pytest.mark.parametrize("fault", FAULTS)
    async def test_fault(self, server: EmbeddingServer, fault: str) -> None:
        server.script = FAULTS[fault]
        embedder = embedder_of(server)

        with pytest.raises(EmbeddingError) as caught:
            await embedder.embed([PRIVATE])
        sentence = str(caught.value)
        assert not isinstance(caught.value, EmbeddingTimeout)
        assert sentence.startswith("The embedding ")
        assert sentence.endswith(".")
        assert SECRET not in sentence
        assert PRIVATE not in sentence
        assert embedder.health() == Health(ready=False, model="some-model", error=sentence)
        server.script = by_length
        await embedder.embed([PRIVATE])
        assert embedder.health().ready

    async def test_hung_up_without_an_answer(self) -> None:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(EmbeddingError, match="cannot be reached"):
                await OpenAICompatibleEmbedder(f"http://127.0.0.1:{port}", "m", "", 30).embed(["a"])

    async def test_a_broken_chunk(self) -> None:
        async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
            await asyncio.sleep(0.05)  # a read of its own
            writer.write(b"HTTP/1.1 500 Oops\r\n\r\n")
            await reader.read()
            writer.close()

        async with await asyncio.start_server(breaking, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(EmbeddingError, match="broke off its answer") as caught:
                await OpenAICompatibleEmbedder(f"http://127.0.0.1:{port}", "m", "", 10).embed(["a"])
            assert not isinstance(caught.value, EmbeddingTimeout)

    async def test_nobody_there(self) -> None:
        with socket.socket() as bound:  # bound and not listening: refuses
            bound.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
            with pytest.raises(EmbeddingError, match="cannot be reached"):
                await OpenAICompatibleEmbedder(url, "m", "", 30).embed(["a"])

    @pytest.mark.parametrize("body", [b"", b'{"data": ['], ids=["silent", "stuck half-way"])
    async def test_too_late(self, server: EmbeddingServer, body: bytes) -> None:
        server.script = sent(body, missing=100, stalled=True)
        embedder = embedder_of(server, timeout=0.2)

        with pytest.raises(EmbeddingTimeout, match=r"within 0\.2 seconds"):
            await embedder.embed(["a"])
        assert not embedder.health().ready

    async def test_cancellation_closes_the_connection(self, server: EmbeddingServer) -> None:
        server.script = sent(b"", missing=100, stalled=True)
        call = asyncio.create_task(embedder_of(server).embed(["a"]))
        await asyncio.wait_for(server.arrived(), 10)
        call.cancel()

        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(call, 10)

    @pytest.mark.parametrize(
        "url",
        ["", "localhost:11434/v1", "http://", "http://[::1", "ftp://x/v1", "tcp://x/v1", "http://a..b/v1"],
    )
    async def test_address_that_is_none(self, url: str) -> None:
        with pytest.raises(EmbeddingError, match=r"cannot be addressed.*EMBEDDING_BASE_URL"):
            await OpenAICompatibleEmbedder(url, "m", "", 30).embed(["a"])

    @pytest.mark.parametrize("key", ["two\nlines", "clé"])
    async def test_unusual_key(self, server: EmbeddingServer, key: str) -> None:
        embedder = OpenAICompatibleEmbedder(server.url, "m", key, 30)
        if "\n" in key:
            with pytest.raises(EmbeddingError, match="EMBEDDING_API_KEY"):
                await embedder.embed(["a"])
        else:
            await embedder.embed(["a"])
            assert server.requests[0].headers["authorization"].encode("latin-1").decode() == f"Bearer {key}"

    async def test_model_must_be_named(self, server: EmbeddingServer) -> None:
        embedder = OpenAICompatibleEmbedder(server.url, "", "", 30)

        with pytest.raises(EmbeddingError, match="EMBEDDING_MODEL"):
            await embedder.embed(["a"])
        assert not embedder.health().ready
        assert embedder.model, "a document that was never converted has no model either"
        assert server.requests == []

    async def test_health_before_the_first_call_asks_nothing(self, server: EmbeddingServer) -> None:
        embedder = embedder_of(server)
        await embedder.warm_up()

        assert embedder.health() == Health(ready=True, model="some-model", error=None)
        assert server.requests == []


class TestChoice:
    @pytest.fixture(autouse=True)
    def nothing_set(self, settings: Settings) -> None:
        settings.EMBEDDING_BASE_URL = settings.EMBEDDING_MODEL = settings.EMBEDDING_API_KEY = ""
        settings.EMBEDDING_TIMEOUT = 60.0

    def test_built_in_by_default_and_one_for_all_threads(self) -> None:
        start = threading.Barrier(8)
        found: list[Embedder] = []

        def ask() -> None:
            start.wait()
            found.append(get_embedder())

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert isinstance(found[0], InProcessEmbedder)
        assert {id(embedder) for embedder in found} == {id(get_embedder())}

    async def test_server_by_url(self, settings: Settings, server: EmbeddingServer) -> None:
        settings.EMBEDDING_BASE_URL = server.url
        settings.EMBEDDING_MODEL = "some-model"
        settings.EMBEDDING_API_KEY = SECRET
        embedder = get_embedder()
        await embedder.embed(["a"])

        assert embedder is get_embedder()
        assert embedder.model == "some-model"
        assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"

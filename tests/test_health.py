"""What a proxy is told: that the process lives, and whether it can do its work."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from django.db.migrations.recorder import MigrationRecorder
from django.test import AsyncClient
from pytest_django import Settings

from chat.engines.openai_compatible import OpenAICompatibleEngine
from config import health
from config.lifespan import wind_down_on_signals
from documents.embedders.base import EmbeddingError
from documents.embedders.openai_compatible import OpenAICompatibleEmbedder
from tests.chat.scripted_engine_server import Call, ScriptedEngineServer
from tests.database import ROOT, query
from tests.documents.embedding_server import Answer, EmbeddingServer, Request, embeddings
from tests.server import PRODUCTION, free_port, running_server

SECRET = "qzsecret"


@dataclass
class Engine:
    """An engine as healthy as a test says, which a warm-up repairs."""

    ready: bool
    error: str | None = None
    warm_ups: int = 0

    def health(self) -> "Engine":
        return self

    async def warm_up(self) -> None:
        self.warm_ups += 1
        self.ready, self.error = True, None


engine = Engine(ready=True)


def get_engine() -> Engine:
    return engine


@pytest.fixture
def engines(settings: Settings) -> Iterator[Engine]:
    settings.LEASE_ENGINES = {"lightweight-llm": "tests.test_health.get_engine"}
    health._retries.clear()
    engine.ready, engine.error, engine.warm_ups = True, None, 0
    yield engine
    health._retries.clear()


async def ready(client: AsyncClient) -> tuple[int, dict[str, Any]]:
    answer = await client.get("/readyz")
    assert "no-store" in answer["Cache-Control"]
    checks: dict[str, Any] = answer.json()["checks"]
    assert all(check["message"].endswith((".", "migrate", "createcachetable")) for check in checks.values())
    return answer.status_code, checks


@pytest.fixture
async def asking() -> AsyncIterator[AsyncClient]:
    yield AsyncClient()
    await asyncio.sleep(0)


async def test_a_process_lives_whatever_becomes_of_its_database(asking: AsyncClient) -> None:
    answer = await asking.get("/healthz")  # without a database: a query would fail this test
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_they_are_only_read(asking: AsyncClient, path: str) -> None:
    assert (await asking.post(path)).status_code == 405


async def test_everything_ready(leases: None, engines: Engine, asking: AsyncClient) -> None:
    status, checks = await ready(asking)
    assert status == 200
    assert set(checks) == {"server", "database", "migrations", "sign-in", "lightweight-llm"}
    assert (await asking.head("/readyz")).status_code == 200


async def test_an_engine_that_is_being_loaded_is_not_ready(
    leases: None, engines: Engine, asking: AsyncClient
) -> None:
    engines.ready = False
    status, checks = await ready(asking)
    assert (status, checks["lightweight-llm"]["ready"]) == (503, False)
    assert engines.warm_ups == 0


async def test_an_engine_in_error_is_not_ready_says_why_and_is_tried_again(
    leases: None, engines: Engine, asking: AsyncClient
) -> None:
    engines.ready, engines.error = False, "The chat model is away."
    status, checks = await ready(asking)
    assert (status, checks["lightweight-llm"]["message"]) == (503, "The chat model is away.")
    await asyncio.gather(*(task for _, task in health._retries.values()))
    assert (await ready(asking))[0] == 200
    engines.ready, engines.error = False, "Away again."
    await ready(asking)
    await ready(asking)
    assert engines.warm_ups == 1  # not at each question


async def test_missing_migrations(leases: None, engines: Engine, asking: AsyncClient) -> None:
    def recorder() -> MigrationRecorder:
        from django.db import connection

        return MigrationRecorder(connection)

    await query(lambda: recorder().record_unapplied("leases", "0006_tally"))
    try:
        status, checks = await ready(asking)
    finally:
        await query(lambda: recorder().record_applied("leases", "0006_tally"))
    assert status == 503
    assert checks["migrations"] == {
        "ready": False,
        "message": "1 are missing. Please run: manage.py migrate",
    }


async def test_the_table_that_counts_passwords_is_missing(
    leases: None, engines: Engine, asking: AsyncClient, settings: Settings
) -> None:
    settings.CACHES = settings.CACHES | {
        "sign-in": settings.CACHES["sign-in"] | {"LOCATION": "never_made"},
    }
    assert (await ready(asking))[0] == 200  # any number may be tried: nothing is counted
    settings.SIGN_IN_RATE = (10, 60)
    status, checks = await ready(asking)
    assert status == 503
    assert checks["migrations"]["ready"]
    assert checks["sign-in"] == {
        "ready": False,
        "message": "Nobody can sign in with a password. Please run: manage.py createcachetable",
    }


async def test_a_server_that_was_told_to_end_is_not_ready(
    leases: None, engines: Engine, asking: AsyncClient
) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        wind_down_on_signals(asyncio.get_running_loop())
        assert (await ready(asking))[0] == 200
        signal.raise_signal(signal.SIGTERM)
        status, checks = await ready(asking)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)
        health.stopping.clear()
        await until_doors_open_again()
    assert (status, checks["server"]["ready"]) == (503, False)
    assert heard == [signal.SIGTERM]


async def until_doors_open_again() -> None:
    """The signal also closed this process's queue, in a thread."""
    from leases import waiting

    async with asyncio.timeout(10):
        while not waiting._room()._closing:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.to_thread(waiting.close)


def test_a_server_loads_its_engines_by_itself(leases: None) -> None:
    deadline = time.monotonic() + 120
    with running_server("config.asgi:application") as base:
        while (answer := httpx.get(f"{base}/readyz", timeout=30)).status_code != 200:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.2)


def test_a_server_has_loaded_all_pages_and_no_engine_when_it_starts() -> None:
    told = "import gc, sys, config.asgi; print(gc.isenabled(), *sorted(sys.modules))"
    server = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    collecting, *loaded = server.stdout.split()
    assert collecting == "True"
    assert {"chat.views", "documents.pages", "leases.admin"} <= set(loaded)
    assert not {"aiohttp", "onnxruntime", "xllamacpp"} & set(loaded)


def postgresql_at(port: int) -> str:
    return f"postgresql://somebody:{SECRET}@127.0.0.1:{port}/{SECRET}"


@pytest.mark.parametrize("hanging", [True, False])
def test_without_its_database_a_server_is_not_ready_says_so_at_once_and_tells_no_secret(
    leases: None, hanging: bool
) -> None:
    with socket.socket() as silent:  # takes connections and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = postgresql_at(silent.getsockname()[1] if hanging else free_port())
        with running_server(asked="/healthz", **PRODUCTION | {"DATABASE_URL": url, "HTTPS": "True"}) as base:
            began = time.monotonic()
            answers = [httpx.get(f"{base}/readyz", timeout=30) for _ in range(4)]
            assert time.monotonic() - began < 4 * 2 + 8
            assert httpx.get(f"{base}/healthz", timeout=2).status_code == 200
            scrape = httpx.get(f"{base}/metrics", timeout=30)
            assert scrape.status_code == 404  # and neither of the three leads to https
    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["checks"]["database"]["ready"] is False
        assert answer.json()["checks"]["migrations"]["ready"] is False
        assert answer.json()["checks"]["sign-in"]["ready"] is False
        assert SECRET not in answer.text
        assert "127.0.0.1" not in answer.text


async def test_a_chat_server_that_came_back_is_found_by_a_warm_up() -> None:
    up = False

    async def models(call: Call) -> None:
        if up:
            await call.answer({"data": [{"id": "a model"}]})
        else:
            await call.answer({"error": "down"}, status=500)

    async def refuse(call: Call) -> None:
        await call.answer({"error": "down"}, status=500)

    async with ScriptedEngineServer({"/v1/models": models, "/v1/chat/completions": refuse}) as server:
        chat = OpenAICompatibleEngine(server.base_url, model="a model", context_window=2000)
        with pytest.raises(Exception, match="failed to answer"):
            async for _ in chat.generate([{"role": "user", "content": "hi"}], max_tokens=1, temperature=0):
                pass
        await chat.warm_up()
        assert chat.health().error is not None
        up = True
        await chat.warm_up()
        assert chat.health().ready


async def test_an_embedding_server_that_came_back_is_found_by_a_warm_up() -> None:
    up = False

    def script(request: Request) -> Answer:
        return embeddings([[1.0, 0.0]]) if up else Answer(b"", status=500)

    async with EmbeddingServer(script) as server:
        embedder = OpenAICompatibleEmbedder(server.url, "a model", "", 5.0)
        await embedder.warm_up()
        assert server.requests == []  # nothing is asked of a server that did not fail
        with pytest.raises(EmbeddingError):
            await embedder.embed(["hi"])
        with pytest.raises(EmbeddingError):
            await embedder.warm_up()
        up = True
        await embedder.warm_up()
        assert embedder.health().ready

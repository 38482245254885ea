"""What Prometheus reads."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pytest_django import Settings

from leases import mutex
from leases.metrics import Figures, families, figures
from leases.models import Service, Ticket
from tests.chat.scripted_engine_server import Call, ScriptedEngineServer
from tests.database import ROOT, query
from tests.documents.embedding_server import EmbeddingServer, embeddings
from tests.leases.clock import let_pass
from tests.server import client_of_server, free_port, running_server

LLM, VECTORS = "lightweight-llm", "vector-convert"
CHAT = "/v1/chat/completions"
UNITS = ("_seconds", "_bytes")

Values = Callable[..., float]


def values_in(text: str) -> Values:
    """The value of a sample by its name and some of its labels; 0 for one that nobody has counted yet."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(name: str, **labels: str) -> float:
        return sum(sample.value for sample in samples if sample.name == name and fits(sample, labels))

    return value


def fits(sample: Sample, labels: dict[str, str]) -> bool:
    return labels.items() <= sample.labels.items()


def known() -> Values:
    samples = [sample for family in families(figures()) for sample in family.samples]

    def value(name: str, **labels: str) -> float:
        return sum(sample.value for sample in samples if sample.name == name and fits(sample, labels))

    return value


class TestFromTheDatabase:
    def test_two_queries_however_much_there_is(self, leases: None) -> None:
        mutex.acquire(LLM, "ann")
        for number in range(5):
            mutex.enqueue(LLM, f"waiter {number}", f"waiter {number}")
        with CaptureQueriesContext(
            connection,
        ) as queries:
            figures()
        assert len(queries) == 2

    def test_a_session_from_its_grant_to_its_end(self, leases: None) -> None:
        grant = mutex.acquire(LLM, "ann")
        let_pass(5)
        mutex.enqueue(LLM, "bob", "waiter")
        value = known()
        assert value("leasehold_held", service=LLM) == 1
        assert value("leasehold_held", service=VECTORS) == 0
        assert 5 <= value("leasehold_held_for_seconds", service=LLM) < 20
        assert value("leasehold_queue_length", service=LLM) == 1
        assert value("leasehold_acquisitions_total", service=LLM) == 1
        assert value("leasehold_sessions_total", service=LLM) == 0
        assert value("leasehold_held_seconds_total", service=LLM) == 0
        mutex.release(grant)
        value = known()
        assert value("leasehold_sessions_total", service=LLM, outcome="released") == 1
        assert 5 <= value("leasehold_held_seconds_total", service=LLM) < 20
        # It was handed to bob, who has not taken it up yet.
        assert value("leasehold_acquisitions_total", service=LLM) == 1

    def test_a_waiter_who_takes_up_the_grant_has_waited(self, leases: None) -> None:
        grant = mutex.acquire(LLM, "ann")
        ticket = mutex.enqueue(LLM, "bob", "waiter")
        Ticket.objects.update(enqueued_at=F("enqueued_at") - timedelta(seconds=5))
        mutex.release(grant)
        claimed = mutex.claim(ticket)
        assert claimed is not None
        assert known()("leasehold_acquisitions_total", service=LLM) == 2
        mutex.release(claimed)
        assert known()("leasehold_acquisitions_total", service=LLM) == 2
        assert 5 <= known()("leasehold_waited_seconds_total", service=LLM) < 20

    def test_counters_never_fall_when_a_session_lapses_before_anybody_sweeps(self, leases: None) -> None:
        mutex.acquire(LLM, "ann")
        let_pass(31)
        value = known()
        assert value("leasehold_held", service=LLM) == 0
        assert value("leasehold_acquisitions_total", service=LLM) == 1
        assert mutex.try_acquire(LLM, "bob") is not None
        value = known()
        assert value("leasehold_acquisitions_total", service=LLM) == 2
        assert value("leasehold_expiries_total", service=LLM) == 1

    def test_a_forced_end_and_a_service_switched_off(self, leases: None) -> None:
        grant = mutex.acquire(LLM, "ann")
        mutex.force_release(LLM, grant.session_id, by="ops", reason="test")
        Service.objects.filter(pk=VECTORS).update(enabled=False)
        value = known()
        assert value("leasehold_forced_releases_total", service=LLM) == 1
        assert value("leasehold_enabled", service=LLM) == 1
        assert value("leasehold_enabled", service=VECTORS) == 0

    def test_help_says_that_these_are_the_same_everywhere(self) -> None:
        assert all("aggregate with max" in family.documentation for family in families(Figures([], {})))


class TestAccess:
    pytestmark = pytest.mark.usefixtures("leases")

    @pytest.fixture
    def public(self, settings: Settings) -> Settings:
        settings.DEBUG, settings.METRICS_TOKEN = False, ""
        return settings

    async def test_with_debug_for_everybody(self, settings: Settings) -> None:
        settings.DEBUG = True
        assert (await AsyncClient().get("/metrics")).status_code == 200

    async def test_without_a_token_for_the_staff_alone(self, public: Settings) -> None:
        for staff, status in ((False, 404), (True, 200)):
            user = await query(User.objects.create_user, f"staff {staff}", is_staff=staff)
            client = AsyncClient()
            await client.aforce_login(user)
            assert (await client.get("/metrics")).status_code == status
        assert (await AsyncClient().get("/metrics")).status_code == 404

    @pytest.mark.parametrize("debug", [True, False])
    async def test_with_a_token_for_its_bearer_alone(self, public: Settings, debug: bool) -> None:
        public.DEBUG, public.METRICS_TOKEN = debug, "tÖken"
        for brought, status in (("", 401), ("Bearer token", 401), ("tÖken", 401), ("Bearer tÖken", 200)):
            answer = await AsyncClient().get("/metrics", headers={"Authorization": brought})
            assert answer.status_code == status
            assert "no-store" in answer["Cache-Control"]
            assert "tÖken" not in answer.content.decode()
        assert (await AsyncClient().get("/metrics")).status_code == 401


def lint(text: str) -> None:
    """What promtool would say of our names."""
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("leasehold_"):
            continue
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert family.name == family.name.lower()
        assert not family.name.endswith(("_count", "_sum", "_bucket", "_info"))
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples), family.name
        else:
            assert not family.name.endswith("_total"), family.name
        if family.type == "histogram":
            assert family.name.endswith(UNITS), family.name
        if "seconds" in family.name:
            assert family.name.endswith(UNITS), family.name
        for sample in family.samples:
            assert not {"instance", "job"} & sample.labels.keys(), family.name


async def broken_off(call: Call) -> None:
    await call.begin()
    for word in ("Once", " upon", " a"):
        await call.token(word)
    call.reset()


async def answered(call: Call) -> None:
    await call.begin()
    await call.token("Hello you")
    await call.finish({"prompt_tokens": 7, "completion_tokens": 2})


async def test_what_one_server_counts(leases: None) -> None:
    script = answered

    async def chat(call: Call) -> None:
        await script(call)

    async with (
        ScriptedEngineServer({CHAT: chat}) as engine,
        EmbeddingServer(lambda asked: embeddings([[1.0, 0.5]] * len(asked.question["input"]))) as embedder,
        client_of_server(
            CHAT_BASE_URL=engine.base_url,
            CHAT_MODEL="scripted",
            CHAT_CONTEXT_WINDOW="2000",
            EMBEDDING_BASE_URL=embedder.url,
            EMBEDDING_MODEL="scripted",
        ) as client,
    ):
        url = "/api/lightweight-llm/chat"
        assert (await client.post(url, json={"message": "hi"})).status_code == 200
        script = broken_off
        assert (await client.post(url, json={"message": "hi"})).status_code == 502
        grant = await query(mutex.acquire, LLM, "somebody else")
        assert (await client.post(url, json={"message": "hi"})).status_code == 503
        stream = await client.post(
            url, json={"message": "hi"}, headers={"Accept": "text/event-stream", "Prefer": "wait=0"}
        )
        assert stream.status_code == 503 or "event: error" in stream.text
        await query(mutex.release, grant)
        pasted = {"title": "Tea", "content": "Green tea.", "contentType": "text"}
        document = (await client.post("/api/RAG/upload", json=pasted)).json()["documentId"]
        converted = await client.post(
            "/api/vector-convert-llm/process-document", json={"document_id": document}
        )
        assert converted.status_code == 200, converted.text
        assert (await client.get(f"/api/RAG/documents/{document}")).status_code == 200
        await client.request("BREW", "/nowhere/at-all?q=1")
        scrape = (await client.get("/metrics")).text

    lint(scrape)
    value = values_in(scrape)
    assert value("leasehold_generated_tokens_total", service=LLM) == 2 + 3
    assert value("leasehold_prompt_tokens_total", service=LLM) == 7
    assert value("leasehold_generation_seconds_total", service=LLM) > 0
    assert value("leasehold_engine_errors_total", service=LLM, kind="error") == 1
    assert value("leasehold_refusals_total", service=LLM, reason="busy") == 1
    assert value("leasehold_refusals_total", service=LLM, reason="wait_timeout") == 1
    assert value("leasehold_wait_seconds_count", service=LLM) == 2
    assert value("leasehold_wait_seconds_count", service=VECTORS) == 1
    assert value("leasehold_embedded_chunks_total", service=VECTORS) == 1
    assert value("leasehold_embedding_seconds_total", service=VECTORS) > 0
    assert value("leasehold_database_up") == 1
    assert value("leasehold_acquisitions_total", service=LLM) == 3
    requests = "leasehold_http_requests_total"
    assert value(requests, method="POST", route="/api/lightweight-llm/chat", status="200") >= 1
    assert value(requests, method="POST", route="/api/lightweight-llm/chat", status="502") == 1
    assert value(requests, method="GET", route="/api/documents/<document_id>", status="200") == 1
    assert value(requests, method="other", route="(none)") == 1
    assert value("leasehold_http_request_duration_seconds_count", route="/api/lightweight-llm/chat") == 4
    assert document not in scrape


def counted(base: str) -> float:
    scrape = httpx.get(f"{base}/metrics").text
    lint(scrape)
    return values_in(scrape)(
        "leasehold_http_requests_total", method="GET", route="/api/services/status", status="200"
    )


def wait_for(count: int, *bases: str) -> None:
    """An answer is counted when it is sent, which its client may learn a moment before another process."""
    deadline = time.monotonic() + 10
    while [counted(base) for base in bases] != [count] * len(bases):
        assert time.monotonic() < deadline, [counted(base) for base in bases]


def processes(directory: Path) -> set[int]:
    return {int(file.stem.rpartition("_")[2]) for file in directory.glob("counter_*.db")}


def test_workers_add_up_and_one_that_is_killed_takes_nothing_along(leases: None, tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    with running_server(METRICS_DIR=str(directory), asked="/healthz") as one:
        assert counted(one) == 0
        first = processes(directory)
        assert len(first) == 1
        with running_server(METRICS_DIR=str(directory), asked="/healthz") as other:
            for base, times in ((one, 3), (other, 4)):
                for _ in range(times):
                    assert httpx.get(f"{base}/api/services/status").status_code == 200
            wait_for(7, one, other)
            (others,) = processes(directory) - first
            os.kill(others, signal.SIGKILL)
            assert httpx.get(f"{one}/api/services/status").status_code == 200
            wait_for(8, one)
        assert values_in(httpx.get(f"{one}/metrics").text)("leasehold_database_up") == 1
        assert not list(directory.glob("gauge_*"))  # so there is none that a dead process could leave


def test_commands_count_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    directory.mkdir()
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import django; django.setup(); import leases.holding as held; "
            "held.REFUSALS.labels('a', 'b').inc()",
        ],
        cwd=ROOT,
        env=os.environ | {"METRICS_DIR": str(directory), "DJANGO_SETTINGS_MODULE": "config.settings"},
        check=True,
        timeout=60,
    )
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("hanging", [True, False])
def test_without_its_database_a_server_still_tells_what_it_counted(leases: None, hanging: bool) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1] if hanging else free_port()
        url = f"postgresql://nobody:secret@127.0.0.1:{port}/nothing"
        with running_server(asked="/healthz", DATABASE_URL=url) as base:
            scrape = httpx.get(f"{base}/metrics", timeout=10)
    assert scrape.status_code == 200
    value = values_in(scrape.text)
    assert value("leasehold_database_up") == 0
    assert value("leasehold_http_requests_total", route="/healthz") >= 1
    assert "leasehold_held{" not in scrape.text

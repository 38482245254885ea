"""SQLite under many writers: whoever comes waits for the file, and nobody is told that it is locked."""

import asyncio
import random
from collections import Counter
from itertools import count
from pathlib import Path
from time import monotonic

import httpx
import pytest
from django.db import connection

from tests.chat.scripted_engine_server import Call, ScriptedEngineServer
from tests.database import database_url
from tests.faults.checkers import grants
from tests.faults.conftest import FAST, Figure
from tests.faults.crowd import crowd
from tests.faults.history import read
from tests.server import client_of_server

pytestmark = [
    pytest.mark.usefixtures("leases"),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="one writer at a time is a property of SQLite"),
]

COMPLETIONS = "/v1/chat/completions"
CHAT_ROUTE = "/api/lightweight-llm/chat"
WAITING = {"Prefer": "wait=3"}
SEED = 16
HAMMER = "tests.faults.queueing:hammer"
VISITORS = 6
EXPECTED = {"", "ServiceBusy", "LeaseLost"}  # what a busy service answers


class Requests:
    """What clients of the server were answered, and those that need not queue after how many `seconds`."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.errors: list[str] = []

    async def send(
        self, client: httpx.AsyncClient, method: str, path: str, **more: object
    ) -> httpx.Response | None:
        began = monotonic()
        try:
            response = await client.request(method, path, **more)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            self.errors.append(f"{method} {path}: {error!r}")
            return None
        if "headers" not in more:
            self.seconds.append(monotonic() - began)
        self.answers[response.status_code] += 1
        if response.status_code not in (200, 201, 503):
            self.errors.append(f"{method} {path}: {response.status_code} {response.text[:300]}")
        elif response.status_code == 503 and not response.json().get("serviceUnavailable"):
            self.errors.append(f"{method} {path}: a 503 that says nothing of the service")
        return response

    def percentile(self, share: float) -> float:
        """In milliseconds; `share` is below 1."""
        return sorted(self.seconds)[int(len(self.seconds) * share)] * 1000


async def answer(call: Call) -> None:
    await call.begin()
    await call.token("Hello")
    await call.finish({"prompt_tokens": 3, "completion_tokens": 1})


async def visit(base: str, requests: Requests, number: int, until: float) -> None:
    """One visitor of the site: looks at the status, begins conversations, chats; half of them queue."""
    chance = random.Random(f"{SEED} {number}")
    kinds = ["look", "look", "begin", "chat"] if number % 2 else ["look", "begin", "wait", "keep"]
    async with httpx.AsyncClient(base_url=base, timeout=60) as client:
        made = await requests.send(client, "POST", "/api/conversations", json={})
        assert made is not None, requests.errors
        assert made.status_code == 201, made.text
        kept = {"message": "hello", "sessionId": made.json()["sessionId"]}
        for turn in count():
            if turn >= len(kinds) and monotonic() > until:
                break
            match kinds[turn] if turn < len(kinds) else chance.choice(kinds):
                case "look":
                    await requests.send(client, "GET", "/api/services/status")
                case "begin":
                    await requests.send(client, "POST", "/api/conversations", json={})
                case "chat":
                    await requests.send(client, "POST", CHAT_ROUTE, json={"message": "hello"})
                case "wait":
                    await requests.send(
                        client, "POST", CHAT_ROUTE, json={"message": "hello"}, headers=WAITING
                    )
                case "keep":
                    await requests.send(client, "POST", CHAT_ROUTE, json=kept, headers=WAITING)


def unexpected(directory: Path) -> list[str]:
    """Every exception that a writer met, but for what a busy service answers."""
    return [
        f"{operation.name}: {operation.error}"
        for operation in read(directory)
        if operation.error not in EXPECTED
    ]


async def test_many_writers_and_a_server_never_meet_a_locked_database(
    tmp_path: Path, figure: Figure, full: bool
) -> None:
    writers, seconds = 16, 30.0 if full else 4.0
    requests = Requests()
    with crowd(
        HAMMER, writers, environment=FAST, directory=str(tmp_path), seconds=seconds, seed=SEED
    ) as group:
        async with (
            ScriptedEngineServer({COMPLETIONS: answer}) as engine,
            client_of_server(
                CHAT_BASE_URL=engine.base_url, CHAT_MODEL="scripted", CHAT_CONTEXT_WINDOW="2000", **FAST
            ) as client,
        ):
            group.go()
            until = monotonic() + seconds
            async with asyncio.TaskGroup() as visitors:
                for number in range(VISITORS):
                    visitors.create_task(visit(str(client.base_url), requests, number, until))
            codes = await asyncio.to_thread(group.wait, 120)
    history = await asyncio.to_thread(read, tmp_path)
    errors = requests.errors + unexpected(tmp_path)
    done = Counter(operation.name for operation in history if operation.ok)
    refused = requests.answers[503] / requests.answers.total()
    figure(
        f"{writers} writers for {seconds:g} s, seed {SEED}: {len(history)} operations beside "
        f"{requests.answers.total()} requests, {refused:.0%} of them 503, p99 of those that need not queue "
        f"{requests.percentile(0.99):.0f} ms; {len(errors)} errors"
    )
    assert errors == []
    assert codes == [0] * writers
    assert requests.answers[200] > 0
    # Not an acquisition at once: with so many in the queue there may be none.
    for verb in ("enqueue", "claim", "renew", "release", "leave", "step_aside", "force"):
        assert done[verb] > 0, f"nobody came to {verb}"
    assert grants(history) == []


def test_without_patience_they_do_meet_one(tmp_path: Path, figure: Figure) -> None:
    """The control: the same writers, who do not wait for the file."""
    impatient = FAST | {"DATABASE_URL": f"{database_url()}?timeout=0"}
    with crowd(HAMMER, 4, environment=impatient, directory=str(tmp_path), seconds=1.0, seed=SEED) as group:
        group.go()
        group.wait(60)
    errors = unexpected(tmp_path)
    figure(f"4 writers for 1 s that do not wait for the file: {len(errors)} errors")
    assert any(error.endswith("OperationalError") for error in errors)

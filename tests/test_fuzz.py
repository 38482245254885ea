"""Made-up requests for every operation that is described: none may fail, all answers are as described."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from django.contrib.auth.models import User
from hypothesis import HealthCheck, Phase, given, settings
from knox.models import get_token_model
from rest_framework.test import APIClient
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi import checks

from config.schema import openapi
from tests import described
from tests.chat.scripted_engine_server import Call, ScriptedEngineServer
from tests.chat.test_faults import CHAT
from tests.described import FILLED
from tests.server import running_server

EXAMPLES = 8  # of each kind, for each operation
MORE = 20  # times as many with --full
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
# Leases that a made-up request takes and leaves, and waits for them.
SHORT = {
    "LEASE_TTL": "1",
    "LEASE_HEARTBEAT": "0.3",
    "LEASE_IDLE_TIMEOUT": "1",
    "LEASE_WAIT_MAX": "0.2",
}
EVENTS = {"Accept": "text/event-stream"}
VALID, INVALID = GenerationMode.POSITIVE, GenerationMode.NEGATIVE


async def say_yes(call: Call) -> None:
    await call.begin()
    await call.token("Yes.")
    await call.finish({"prompt_tokens": 3, "completion_tokens": 1})


@pytest.fixture
def server(leases: None) -> Iterator[str]:
    """The base URL of a server whose chat model says yes at once."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(ScriptedEngineServer({CHAT: say_yes})) as engine,
        running_server(
            CHAT_BASE_URL=engine.base_url, CHAT_MODEL="scripted", **SHORT, ANONYMOUS_RATE=""
        ) as base,
    ):
        yield base


def belongings(api: APIClient) -> tuple[dict[str, str], dict[str, str]]:
    """The header of a new operator, who may do everything, and the ids of what is theirs."""
    user = User.objects.create_superuser(f"user{User.objects.count()}")
    _, token = get_token_model().objects.create(user=user)
    api.force_authenticate(user)
    document = api.post("/api/RAG/upload", {"title": "Tea", "content": "It is steeped."}, format="json")
    conversation = api.post("/api/conversations", {}, format="json")
    ids = {
        "document_id": document.json()["documentId"],
        "session_id": conversation.json()["sessionId"],
        "message_id": "1",
        "service_id": "lightweight-llm",
        "ticket_id": "1",
    }
    return {"Authorization": f"Token {token}"}, ids


def test_made_up_requests_never_fail_and_are_answered_as_described(
    server: str,
    api: APIClient,
    pytestconfig: pytest.Config,
    record_property: Any,
    subtests: pytest.Subtests,
) -> None:
    examples = EXAMPLES * (MORE if pytestconfig.getoption("full") else 1)
    statuses: dict[int, int] = {}
    began = time.monotonic()

    def ask(operation: Any, mode: GenerationMode, headers: dict[str, str], ids: dict[str, str]) -> None:
        own = {name: value for name, value in ids.items() if f"{{{name}}}" in operation.path}

        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode, path_parameters=own))
        def asked(case: Case[Any]) -> None:
            response = case.call(base_url=server, headers=headers)
            statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
            assert response.status_code != 500, response.text
            case.validate_response(response, checks=CHECKS)
            described.check(
                case.method,
                case.operation.path.format_map(FILLED),
                response.status_code,
                {name.title(): values[0] for name, values in response.headers.items()},
                response.text,
            )

        asked()

    for found in schemathesis.openapi.from_dict(openapi()).get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]
        done = operation.definition.raw["responses"].get("200", {}).get("content", {})
        for mode, theirs, extra in (
            (VALID, True, {}),
            (VALID, False, {}),
            *([(INVALID, True, {})] if operation.body or operation.query else []),
            *([(VALID, True, EVENTS)] if "text/event-stream" in done else []),
        ):
            with subtests.test(operation=operation.label, mode=mode.value, theirs=theirs, **extra):
                headers, ids = belongings(api) if theirs else ({}, {})
                ask(operation, mode, headers | extra, ids)

    calls, seconds = sum(statuses.values()), time.monotonic() - began
    answers = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    record_property("figure", f"{calls} made-up requests in {seconds:.0f} s, answered {answers}")
    assert calls > 500
    assert {200, 201, 400, 401, 404} <= set(statuses)

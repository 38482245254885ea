"""GET /api/services/status: true at every moment, and of no use to an attacker."""

import json
import time
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from leases import mutex
from leases.models import Service
from leases.status import public_status
from tests.leases.clock import let_pass

pytestmark = pytest.mark.usefixtures("leases")

LLM, VECTORS = "lightweight-llm", "vector-convert"


def status(client: APIClient) -> Any:
    response = client.get("/api/services/status")
    assert response.status_code == 200
    return response.json()


def test_free_services_have_the_contracts_fields(api: APIClient) -> None:
    before = int(time.time() * 1000)
    body = status(api)
    assert body["services"].keys() == {"chat", "vectorConvert"}
    chat, convert = body["services"]["chat"], body["services"]["vectorConvert"]
    assert (chat["id"], chat["name"], chat["available"], chat["message"]) == (LLM, "Chat Service", True, None)
    assert (convert["id"], convert["name"]) == (VECTORS, "Document Conversion Service")
    for service in (chat, convert):
        assert service["health"].keys() == {"ready", "model", "error"}
        assert service["queue"] == {"length": 0, "estimatedWaitSeconds": None}
    assert body["activeSessions"] == []
    assert abs(body["timestamp"] - before) < 5000


def test_a_held_service_is_busy_in_words_with_its_session(api: APIClient) -> None:
    grant = mutex.acquire(VECTORS, "user:7")
    let_pass(6, VECTORS)
    body = status(api)
    convert = body["services"]["vectorConvert"]
    assert convert["available"] is False
    assert convert["message"].startswith("Someone else is using the document conversion service right now.")
    assert body["services"]["chat"]["available"] is True
    (session,) = body["activeSessions"]
    assert session.keys() == {"serviceId", "sessionId", "startTime", "lastActivity", "duration"}
    assert session["serviceId"] == VECTORS
    assert session["duration"] == body["timestamp"] - session["startTime"]
    assert 6000 <= session["duration"] < 12_000
    assert session["lastActivity"] == session["startTime"]
    mutex.release(grant)
    assert status(api)["activeSessions"] == []


def test_an_expired_session_is_never_listed_swept_or_not(api: APIClient) -> None:
    mutex.acquire(LLM, "ann")
    let_pass(31)
    body = status(api)
    assert body["services"]["chat"]["available"] is True
    assert body["activeSessions"] == []


def test_nothing_public_ends_renews_or_names_a_session(api: APIClient) -> None:
    grant = mutex.acquire(LLM, "user:7")
    text = json.dumps(status(api))
    assert grant.session_id not in text
    assert "user:7" not in text
    public = status(api)["activeSessions"][0]["sessionId"]
    assert not mutex.force_release(LLM, public, by="nosy", reason="")
    stolen = mutex.Grant(LLM, public, "user:7", grant.fencing_token, grant.ttl, grant.idle_timeout)
    assert mutex.renew(stolen) is None
    assert not mutex.release(stolen)


def test_a_disabled_service_says_why(api: APIClient) -> None:
    Service.objects.filter(pk=LLM).update(enabled=False, disabled_message="Closed until noon.")
    chat = status(api)["services"]["chat"]
    assert (chat["available"], chat["enabled"], chat["message"]) == (True, False, "Closed until noon.")


def test_names_and_sentences_are_the_operators_to_choose(api: APIClient) -> None:
    Service.objects.filter(pk=LLM).update(name="Oracle", busy_message="The oracle is speaking. Please wait.")
    mutex.acquire(LLM, "ann")
    chat = status(api)["services"]["chat"]
    assert (chat["name"], chat["message"]) == ("Oracle", "The oracle is speaking. Please wait.")


def test_it_takes_one_query() -> None:
    mutex.acquire(LLM, "ann")
    with CaptureQueriesContext(connection) as queries:
        public_status()
    assert len(queries) == 1


def test_it_is_never_cached_and_needs_no_session(api: APIClient) -> None:
    response = api.get("/api/services/status/")
    assert "no-store" in response["Cache-Control"]
    assert not response.cookies
    assert api.post("/api/services/status").status_code == 405

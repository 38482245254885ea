"""The description of the API is whole, valid, and true of real answers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.urls import URLPattern, URLResolver, get_resolver, resolve
from knox.models import get_token_model
from pytest_django import Settings
from rest_framework.test import APIClient

from config.schema import openapi
from leases import mutex
from leases.models import Service
from tests import described
from tests.described import FILLED, conform, conform_stream, events_of, operations, route_of
from tests.documents import files
from tests.server import free_port, running_server

LLM, VECTORS = "lightweight-llm", "vector-convert"
IDS = [f"{method} {path}" for path, method, _ in operations()]


def routes(patterns: list[Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The regular expression and the view of each address of the site."""
    for pattern in patterns:
        route = before + str(pattern.pattern).removeprefix("^" if before else "")
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


def test_the_description_is_valid_openapi_without_a_warning() -> None:
    call_command("spectacular", validate=True, fail_on_warn=True, file=os.devnull)
    assert openapi()["openapi"] == "3.1.0"


def test_every_route_of_the_api_is_described_and_no_other() -> None:
    existing = {
        route for route, _ in routes(get_resolver().url_patterns) if route.lstrip("^").startswith("api")
    }
    assert len(existing) > 15
    found = {route_of(path) for path, _, _ in operations()}
    assert existing - found == {"^api/docs/?$", "^api(?:/|$)"}  # a page for people, and what is not there
    assert found <= existing


def test_every_method_of_a_route_is_described() -> None:
    for path, item in openapi()["paths"].items():
        view = getattr(resolve(path.format_map(FILLED)).func, "cls", None)
        if view is not None:  # else a plain view
            allowed = set(view().allowed_methods) - {"OPTIONS", "HEAD", "TRACE"}
            assert {method.upper() for method in item} == allowed, path


@pytest.mark.parametrize(("path", "method", "operation"), operations(), ids=IDS)
def test_every_operation_says_what_it_is(path: str, method: str, operation: dict[str, Any]) -> None:
    for word in ("summary", "description", "operationId", "tags"):
        assert operation.get(word), word
    assert set(operation["tags"]) <= {tag["name"] for tag in openapi()["tags"]}
    for parameter in operation.get("parameters", []):
        assert parameter.get("description"), parameter["name"]
    bodies = [("request", operation["requestBody"])] if "requestBody" in operation else []
    for name, body in (*bodies, *operation["responses"].items()):
        assert name == "request" or body["description"]
        assert body["content"], name
        for media_type, content in body["content"].items():
            assert content["examples"], (name, media_type)


@pytest.mark.parametrize(("path", "method", "operation"), operations(), ids=IDS)
def test_every_example_has_the_shape_that_it_is_an_example_of(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    bodies = [operation["requestBody"]] if "requestBody" in operation else []
    for body in (*bodies, *operation["responses"].values()):
        for media_type, content in body["content"].items():
            for example in content["examples"].values():
                check = conform_stream if media_type == "text/event-stream" else conform
                check(example["value"], content["schema"])


def test_every_field_is_described() -> None:
    silent = [
        f"{name}.{field}"
        for name, shape in openapi()["components"]["schemas"].items()
        for field, about in shape.get("properties", {}).items()
        if not about.get("description")
    ]
    assert silent == []


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name == name.lower() for name in names)


class TestRealAnswers:
    """What a real server with its real engines answers is what is described."""

    @contextmanager
    def client(self, base: str, **headers: str) -> Iterator[httpx.Client]:
        def check(response: httpx.Response) -> None:
            response.read()
            request = response.request
            described.check(
                request.method, request.url.path, response.status_code, response.headers, response.text
            )

        hooks: dict[str, list[Any]] = {"response": [check]}
        with httpx.Client(base_url=base, timeout=60, event_hooks=hooks, headers=headers) as client:
            yield client

    @pytest.mark.usefixtures("leases")
    def test_answers_errors_and_streams_are_as_described(self) -> None:
        user = User.objects.create_user("ann", password="correct horse")
        _, token = get_token_model().objects.create(user=user)
        with (
            running_server(ANONYMOUS_RATE="") as base,
            self.client(base) as client,
            self.client(base, Authorization=f"Token {token}") as program,
        ):
            self.ask_everything(client)
            assert program.get("/api/documents").json()["total"] == 0
            assert program.delete("/api/auth/token").status_code == 200
            assert program.get("/api/documents").status_code == 401
            made = client.post("/api/auth/token", auth=("ann", "correct horse"))
            assert made.status_code == 201

    def ask_everything(self, client: httpx.Client) -> None:
        for path in ("/api", "/api/schema", "/api/services/status", "/api/lightweight-llm/status"):
            assert client.get(path).status_code == 200
        uploaded = client.post(
            "/api/RAG/upload", json={"title": "Tea", "content": "# Tea\n\nIt is steeped.", "tags": ["x"]}
        )
        assert uploaded.status_code == 201
        document = uploaded.json()["documentId"]
        pdf = files.pdf([[("Leave", 16, 20), ("Everybody has 31 days.", 11, 14)]])
        assert client.post("/api/RAG/upload", files={"file": ("a.pdf", pdf)}).status_code == 201
        assert client.post("/api/RAG/upload", files={"file": ("a.pdf", b"%PDF-1.4 x")}).status_code == 422
        assert client.post("/api/RAG/upload", json={}).status_code == 400
        assert client.post("/api/RAG/upload", content=b"x").status_code == 415
        assert client.post("/api/RAG/search", content=b" " * 3_000_000).status_code == 413

        ask = {"message": "What is tea?", "documentIds": [document], "max_length": 8, "temperature": 0}
        converting, asking = "/api/vector-convert-llm/process-document", "/api/RAG/chat"
        events = {"Accept": "text/event-stream"}
        assert client.post(asking, json=ask).json()["notice"] is not None
        stream = client.post(converting, json={"document_id": document}, headers=events)
        assert [name for name, _ in events_of(stream.text)] == ["started", "progress", "progress", "done"]
        assert client.post("/api/RAG/embeddings", json={"documentId": document}).json()["unchanged"] is True
        assert client.post(converting, json={"document_id": "x"}).status_code == 404
        answered = client.post("/api/RAG/document-chat", json=ask)
        assert answered.json()["sources"]
        session = answered.json()["sessionId"]
        bare = {"message": "Hello", "max_length": 4, "sessionId": session}
        stream = client.post("/api/lightweight-llm/chat", json=bare, headers=events)
        assert {name for name, _ in events_of(stream.text)} == {"started", "token", "done"}
        assert client.post("/api/lightweight-llm/chat", json={"message": ""}).status_code == 400
        self.ask_while_busy(client, bare)

        assert client.get("/api/RAG/search", params={"q": "tea"}).json()["total"] > 0
        assert client.get("/api/RAG/search").status_code == 400
        among = {"query": "tea", "documentIds": [document]}
        assert client.post("/api/RAG/search", json=among).json()["searchType"] == "hybrid"
        assert client.post("/api/RAG/search", json=among | {"documentIds": ["x"]}).status_code == 404
        for path in ("", f"/{document}", f"/{document}/embedding"):
            assert client.get(f"/api/RAG/documents{path}").status_code == 200
            assert client.get(f"/api/documents{path}").status_code == 200
        assert client.get("/api/RAG/upload").json()["total"] == 2
        assert client.get("/api/RAG/stats").json()["totalEmbeddings"] > 0
        assert client.delete(f"/api/RAG/documents/{document}").status_code == 200
        assert client.get(f"/api/RAG/documents/{document}").status_code == 404

        assert client.post("/api/conversations", json={}).status_code == 201
        assert client.get("/api/conversations", params={"search": "hello"}).json()["total"] == 1
        kept = client.get(f"/api/conversations/{session}").json()
        assert len(kept["messages"]) == 4
        changed = client.patch(f"/api/conversations/{session}", json={"title": "Tea", "documentIds": []})
        assert changed.json()["title"] == "Tea"
        last = kept["messages"][2]["id"]
        assert client.delete(f"/api/conversations/{session}/messages/{last}").json()["deleted"] == 2
        assert client.delete(f"/api/conversations/{session}").status_code == 200
        assert client.get(f"/api/conversations/{session}").status_code == 404

    def ask_while_busy(self, client: httpx.Client, body: dict[str, Any]) -> None:
        path, events = "/api/lightweight-llm/chat", {"Accept": "text/event-stream"}
        held = mutex.acquire(LLM, "user:somebody-else")
        assert client.get("/api/services/status").json()["activeSessions"]
        assert client.post(path, json=body).json()["reason"] == "busy"
        assert client.post(path, json=body, headers={"Prefer": "wait=1"}).json()["reason"] == "wait_timeout"
        stream = client.post(path, json=body, headers=events | {"Prefer": "wait=1"})
        assert [name for name, _ in events_of(stream.text)] == ["queued", "error"]
        mutex.release(held)
        Service.objects.filter(pk=LLM).update(enabled=False)
        assert client.post(path, json=body).json()["reason"] == "disabled"
        Service.objects.filter(pk=LLM).update(enabled=True)

    @pytest.mark.usefixtures("leases")
    def test_a_dead_engine_is_as_described(self, api: APIClient, settings: Settings) -> None:
        settings.CHAT_BASE_URL = f"http://127.0.0.1:{free_port()}/v1"
        path = "/api/lightweight-llm/chat"
        answer: Any = api.post(path, {"message": "Hello"}, format="json")
        assert answer.status_code == 502
        described.check("POST", path, 502, answer.headers, answer.content.decode())

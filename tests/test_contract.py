"""The edges of the contract that belong to no single route."""

import time
from typing import Any

import pytest
from rest_framework.test import APIClient

pytestmark = pytest.mark.usefixtures("leases")

ROUTES = [
    "/api/services/status",
    "/api/lightweight-llm/status",
    "/api/lightweight-llm/chat",
    "/api/RAG/chat",
    "/api/RAG/upload",
    "/api/RAG/search",
    "/api/vector-convert-llm/process-document",
    "/api/nowhere",
    "/api",
    "/api/schema",
]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_every_answer_is_json_of_the_one_shape(api: APIClient, route: str, method: str) -> None:
    for headers in ({}, {"HTTP_ACCEPT": "text/plain"}, {"HTTP_ACCEPT": "nonsense"}):
        extra: Any = headers
        response = api.generic(method, route, "{}", content_type="application/json", **extra)
        assert response.status_code < 500
        if method != "OPTIONS" or response.status_code >= 400:
            assert response["Content-Type"] == "application/json"
            body = response.json()
            assert "services" in body or "openapi" in body or body["success"] is (response.status_code < 400)
            if response.status_code >= 400:
                assert isinstance(body["error"], str)
                assert body["error"]


@pytest.mark.parametrize("token", ["Token", "Token \xff\xfe", "Token a b", "Token unknown", "Basic !!!"])
def test_odd_credentials_are_no_server_error(api: APIClient, token: str) -> None:
    response = api.get("/api/RAG/documents", HTTP_AUTHORIZATION=token)
    assert response.status_code in (200, 401)
    assert response.json()["success"] is (response.status_code == 200)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/RAG/search", {"query": "x", "documentIds": [{}] * 400_000}),
        ("/api/RAG/chat", {"message": "x", "documentIds": [[]] * 400_000}),
        ("/api/RAG/chat", {"message": "", "documentIds": ["x"], "conversationHistory": [{}] * 400_000}),
        ("/api/lightweight-llm/chat", {"message": "", "conversation_history": [{}] * 400_000}),
        ("/api/RAG/upload", {"title": "x", "content": "y", "tags": [{}] * 400_000}),
    ],
)
def test_long_lists_are_refused_without_a_look_at_each_entry(api: APIClient, path: str, body: Any) -> None:
    began = time.monotonic()
    response = api.post(path, body, format="json")
    seconds = time.monotonic() - began
    assert response.status_code == 400
    assert response.json()["error"]
    print(f"400,000 entries refused in {seconds:.2f} s")
    assert seconds < 5


def test_a_form_with_too_many_fields_is_refused_in_words(api: APIClient) -> None:
    response = api.post("/api/RAG/upload", {f"field{n}": "x" for n in range(1100)}, format="multipart")
    assert response.status_code == 400
    assert response.json()["success"] is False


@pytest.mark.parametrize("fields", [{"title": "x"}, {"file": "not a file"}, {"title": "x", "content": "y"}])
def test_a_form_without_a_file_is_told_so(api: APIClient, fields: dict[str, str]) -> None:
    response = api.post("/api/RAG/upload", fields, format="multipart")
    assert response.status_code == 400
    assert response.json()["error"] == "Please choose a file to upload."


def test_a_wrong_host_is_refused_in_words(api: APIClient) -> None:
    response = api.get("/api/RAG/documents", HTTP_HOST="evil.example")
    assert response.status_code == 400
    assert response.json()["success"] is False


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01"])
def test_a_forged_cursor_is_refused_or_harmless(api: APIClient, moment: str) -> None:
    from base64 import urlsafe_b64encode

    cursor = urlsafe_b64encode(f"{moment} 00000000-0000-0000-0000-000000000000".encode()).decode()
    response = api.get("/api/RAG/documents", {"cursor": cursor})
    assert response.status_code in (200, 400)

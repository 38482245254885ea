"""Pages of other sites, and requests that claim to be for or from somewhere else."""

from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client
from knox.models import AuthToken
from rest_framework.test import APIClient

from chat.models import Conversation
from documents.models import Document
from tests.security.routes import addresses
from tests.server import PRODUCTION, running_server

pytestmark = pytest.mark.usefixtures("leases")

FORM = "application/x-www-form-urlencoded"
FOREIGN = ["https://evil.example", "http://testserver.evil.example", "https://testserver:8443", "null", ""]


@pytest.fixture
def ann() -> User:
    return User.objects.create_superuser("ann", password="correct horse battery")


@pytest.fixture
def strict(ann: User) -> Client:
    """Ann's browser, when a page of another site has it send something."""
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(ann)
    return client


def sent(client: Client, method: str, path: str, **headers: str) -> Any:
    content_type = "application/json" if path.startswith("/api/") else FORM
    return client.generic(method, path, "{}", content_type=content_type, headers=headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_session_cookie_alone_changes_nothing_anywhere(strict: Client, method: str) -> None:
    harmless = {"services-status", "token"}  # read only; takes no cookie at all
    for name, path in addresses():
        answer = sent(strict, method, path)
        assert answer.status_code in ({401, 405} if name in harmless else {403, 405}), (name, path)


def test_a_page_from_before_a_sign_in_says_what_to_do(strict: Client) -> None:
    refused = sent(strict, "POST", "/api/conversations", **{"X-CSRFToken": "a" * 32})
    assert refused.status_code == 403
    assert "Please reload it" in refused.json()["error"]
    assert "CSRF Failed" not in refused.json()["error"]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_visitors_documents_are_safe_from_other_sites(origin: str) -> None:
    client = APIClient(enforce_csrf_checks=True)
    upload = {"title": "Tea", "content": "Green tea.", "contentType": "text"}
    made = client.post("/api/RAG/upload", upload, format="json", headers={"Origin": "http://testserver"})
    assert made.status_code == 201
    path = f"/api/RAG/documents/{made.json()['documentId']}"
    assert client.delete(path, headers={"Origin": origin}).status_code == 403
    for send in ("json", "multipart"):
        refused = client.post("/api/RAG/upload", upload, format=send, headers={"Origin": origin})
        assert refused.status_code == 403
        assert refused.json()["error"].startswith("This was sent by another site's page.")
    assert Document.objects.count() == 1
    assert client.get(path, headers={"Origin": origin}).status_code == 200
    assert client.delete(path).status_code == 200


def test_a_token_needs_nothing_else(ann: User) -> None:
    _, token = AuthToken.objects.create(user=ann)
    client = APIClient(enforce_csrf_checks=True)
    made = client.post(
        "/api/conversations",
        {"title": "Tea"},
        format="json",
        headers={"Authorization": f"Token {token}", "Origin": "https://evil.example"},
    )
    assert made.status_code == 201
    assert Conversation.objects.get().owner == f"user:{ann.pk}"


def test_no_other_site_may_read_an_answer() -> None:
    client = APIClient()
    for _, path in addresses():
        for method in ("GET", "OPTIONS"):
            answer = client.generic(method, path, headers={"Origin": "https://evil.example"})
            assert not [name for name in answer.headers if name.startswith("Access-Control-")]


@pytest.mark.parametrize(
    "evil", ["https://evil.example/", "//evil.example", r"/\evil.example", "///evil.example"]
)
def test_no_page_leads_to_another_site(ann: User, evil: str) -> None:
    signed_in = Client()
    signed_in.force_login(ann)
    assert signed_in.get("/sign-in/", {"next": evil})["Location"] == "/"
    assert signed_in.post("/sign-out/", {"next": evil})["Location"] == "/"
    form = {"username": "ann", "password": "correct horse battery", "next": evil}
    assert Client().post(f"/sign-in/?next={evil}", form)["Location"] == "/"


class TestServer:
    """As it stands in the network, without a proxy in front of it."""

    def test_what_a_client_says_of_itself_is_not_believed(self) -> None:
        with running_server(**PRODUCTION, ANONYMOUS_RATE="2/hour") as base:
            body = {"message": ""}
            path = f"{base}/api/lightweight-llm/chat"
            forged = [
                {"X-Forwarded-For": "198.51.100.1"},
                {"X-Forwarded-For": "198.51.100.2, 127.0.0.1"},
                {"X-Real-IP": "198.51.100.3", "Forwarded": "for=198.51.100.3", "Client-IP": "198.51.100.3"},
                {"X-Forwarded-For": "unix:, ::1", "True-Client-IP": "::1"},
            ]
            answers = [httpx.post(path, json=body, headers=headers).status_code for headers in forged]
            assert answers == [400, 400, 429, 429]

    def test_a_proxy_that_was_named_is_believed_as_far_as_it_saw(self) -> None:
        with running_server(**PRODUCTION, ANONYMOUS_RATE="1/hour", FORWARDED_ALLOW_IPS="127.0.0.1") as base:
            path = f"{base}/api/lightweight-llm/chat"

            def answer(chain: str) -> int:
                return httpx.post(path, json={}, headers={"X-Forwarded-For": chain}).status_code

            assert answer("198.51.100.1") == 400
            assert answer("203.0.113.9, 198.51.100.1") == 429  # the first is what the client claimed
            assert answer("198.51.100.2") == 400

    def test_hosts_that_are_not_ours_are_refused(self) -> None:
        with running_server(**PRODUCTION) as base:
            for host in ("evil.example", "localhost.evil.example", "127.0.0.1@evil.example", "", "a b"):
                for path in ("/", "/sign-in/", "/api/RAG/documents"):
                    assert httpx.get(f"{base}{path}", headers={"Host": host}).status_code == 400, host
            answer = httpx.get(
                f"{base}/admin/", headers={"X-Forwarded-Host": "evil.example", "X-Host": "evil.example"}
            )
            assert answer.headers["Location"] == "/admin/login/?next=/admin/"
            page = httpx.get(f"{base}/sign-in/", headers={"X-Forwarded-Host": "evil.example"})
            assert "evil.example" not in page.text

"""People who have not signed in: whether they may use the site at all, and how often."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from rest_framework.test import APIClient

from tests.security.routes import addresses
from tests.server import PRODUCTION, running_server

OPEN_PAGES = {"status-page", "sign-in", "sign-up", "login", "healthz", "readyz", "metrics"}
OPEN_OF_API = {"services-status", "services", "service", "chat-status"}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann", password="correct horse battery")


def upload(client: Any) -> Any:
    return client.post("/api/RAG/upload", {"title": "Tea", "content": "Green tea."}, format="json")


@pytest.mark.usefixtures("leases")
class TestRate:
    @pytest.fixture(autouse=True)
    def rate(self, settings: Settings) -> None:
        settings.ANONYMOUS_RATE = (2, 60)

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/api/lightweight-llm/chat", {}),
            ("/api/RAG/chat", {}),
            ("/api/RAG/document-chat", {}),
            ("/api/RAG/upload", {}),
            ("/api/vector-convert-llm/process-document", {}),
            ("/api/RAG/embeddings", {}),
        ],
    )
    def test_costly_work_is_refused_in_words(self, api: APIClient, path: str, body: Any) -> None:
        for _ in range(2):
            assert api.post(path, body, format="json").status_code == 400
        for forged in ("198.51.100.1", "198.51.100.2, 127.0.0.1"):
            refused: Any = api.post(path, body, format="json", headers={"X-Forwarded-For": forged})
            assert refused.status_code == 429
            assert refused.json()["retryAfter"] == int(refused["Retry-After"])
            assert 0 < refused.json()["retryAfter"] <= 60
            assert "Please wait" in refused.json()["error"]
            assert refused.json()["success"] is False
        elsewhere = APIClient(REMOTE_ADDR="192.0.2.7")
        assert elsewhere.post(path, body, format="json").status_code == 400

    def test_reading_and_searching_go_on(self, api: APIClient) -> None:
        for _ in range(4):
            assert api.get("/api/RAG/upload").status_code == 200
            assert api.get("/api/RAG/documents").status_code == 200
            assert api.post("/api/RAG/search", {"query": "x"}, format="json").status_code == 200

    def test_who_has_signed_in_is_never_throttled(self, api: APIClient, ann: User) -> None:
        api.force_login(ann)
        assert [upload(api).status_code for _ in range(5)] == [201] * 5

    @pytest.mark.parametrize("path", ["/", "/documents/"])
    def test_the_pages_forms_count_too(self, client: Client, api: APIClient, path: str) -> None:
        assert upload(api).status_code == 201
        assert client.post(path, {"action": "?"}).status_code in (200, 400)
        refused = client.post(path, {"action": "?"})
        assert refused.status_code == 429
        assert "Please wait" in refused.content.decode()
        assert int(refused["Retry-After"]) > 0
        assert client.get(path).status_code == 200

    def test_a_pages_form_of_who_has_signed_in_goes_on(self, client: Client, ann: User) -> None:
        client.force_login(ann)
        assert [client.post("/", {}).status_code for _ in range(4)] == [200] * 4

    def test_counting_costs_no_query(self, api: APIClient, settings: Settings) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as counted:
                api.post("/api/lightweight-llm/chat", {}, format="json")
            return len(counted)

        counting = queries()
        settings.ANONYMOUS_RATE = None
        assert counting == queries() == 0


def test_rates_that_make_no_sense_are_said_at_the_start() -> None:
    from config.settings import rate

    assert rate("NO_SUCH_NAME", "7/hour") == (7, 3600)
    assert rate("NO_SUCH_NAME", "") is None
    for wrong in ("7", "0/min", "-1/min", "x/min", "7/fortnight", "1001/min", "7/"):
        with pytest.raises(ImproperlyConfigured, match="NO_SUCH_NAME must be"):
            rate("NO_SUCH_NAME", wrong)


@pytest.mark.usefixtures("leases")
class TestTurnedOff:
    @pytest.fixture(autouse=True)
    def off(self, settings: Settings) -> None:
        settings.ANONYMOUS_USE = False
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
        ]

    def test_the_api_asks_everybody_to_sign_in(self, api: APIClient, ann: User) -> None:
        for name, path in of_api():
            answer = api.get(path)
            if name in OPEN_OF_API:
                assert answer.status_code == 200
                continue
            if name == "docs":  # a page
                assert answer["Location"].startswith("/sign-in/?next=/")
                continue
            assert answer.status_code == 401, path
            assert answer["WWW-Authenticate"] == "Token"
            assert answer.json()["error"].startswith("Please sign in")
        assert api.post("/api/lightweight-llm/chat", {"message": "hello"}, format="json").status_code == 401
        assert upload(api).status_code == 401
        assert api.get("/api/nowhere").status_code == 404
        api.force_login(ann)
        assert upload(api).status_code == 201

    def test_the_pages_lead_to_the_sign_in_page(self, client: Client, ann: User) -> None:
        for name, path in pages():
            answer = client.get(path)
            if name in OPEN_PAGES:
                assert not answer.headers.get("Location", "").startswith("/sign-in/") or name == "login"
            else:
                assert answer.status_code == 302, path
                assert answer["Location"].startswith(("/sign-in/?next=/", "/admin/login/")), path
        client.force_login(ann)
        assert client.get("/documents/").status_code == 200


def test_a_server_of_which_anonymous_use_is_off(leases: None) -> None:
    with running_server(**PRODUCTION, ANONYMOUS_USE="False") as base:
        with httpx.Client(base_url=base) as client:
            assert client.get("/").headers["Location"] == "/sign-in/?next=/"
            assert client.get("/status/").status_code == 200
            assert client.get("/sign-in/").status_code == 200
            assert client.get("/static/css/site.css").status_code == 200
            assert client.get("/api/services/status").status_code == 200
            assert client.post("/api/lightweight-llm/chat", json={"message": "x"}).status_code == 401
            assert client.post("/api/RAG/upload", files={"file": ("a.txt", b"tea")}).status_code == 401


def pages() -> list[tuple[str, str]]:
    return [(name, path) for name, path in addresses() if not path.startswith("/api")]


def of_api() -> list[tuple[str, str]]:
    return [(name, path) for name, path in addresses() if path.startswith("/api/")]

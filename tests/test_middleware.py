"""Middleware on the event loop does what Django's does, with fewer trips to threads."""

from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings as site
from django.contrib.auth.models import User
from django.test import AsyncClient
from pytest_django import Settings

from config.middleware import on_the_loop
from leases import mutex
from tests.database import query

pytestmark = pytest.mark.usefixtures("leases")
DJANGOS = list(site.MIDDLEWARE)
NOTE = {"title": "Note", "content": "Cats purr.", "contentType": "text"}
CHANGING = {"Content-Length", "Expires"}
POLICY = "Content-Security-Policy"


def seen(response: Any) -> tuple[Any, ...]:
    """What must be the same: all but what tells one answer from the next."""
    headers: dict[str, Any] = {
        name: value for name, value in response.headers.items() if name not in CHANGING
    }
    headers[POLICY] = sorted(headers[POLICY].split("; "))  # whose order is by chance
    kept = ("path", "samesite", "httponly", "secure", "max-age")
    cookies = {name: [cookie[each] for each in kept] for name, cookie in response.cookies.items()}
    return response.status_code, headers, cookies


async def visit() -> list[Any]:
    """A stranger who reads, is refused, uploads, signs in and out, and reads a message about it."""
    client = AsyncClient(enforce_csrf_checks=True, headers={"host": "localhost"})
    await query(User.objects.create_user, "ann", password="a long secret")
    answers = [
        await client.get("/"),
        await client.get("/api/services/status"),
        await client.get("/no/such/page"),
        await client.post("/documents/", {"action": "paste"}),
        await client.post("/api/RAG/upload", NOTE, content_type="application/json"),
        await client.get("/api/RAG/documents"),
        await client.get("/sign-in/"),
    ]
    token = answers[-1].context["csrf_token"]
    form = {"username": "ann", "password": "a long secret", "csrfmiddlewaretoken": str(token)}
    answers += [await client.post("/sign-in/", form, follow=False), await client.get("/")]
    token = answers[-1].context["csrf_token"]
    answers += [
        await client.post("/documents/", {"action": "paste", "csrfmiddlewaretoken": str(token)}),
        await client.get("/documents/"),
        await client.get("/documents/"),
    ]
    return answers


async def test_everything_is_answered_as_by_djangos_own(settings: Settings) -> None:
    shown: list[list[Any]] = []
    for middleware in (DJANGOS, on_the_loop(DJANGOS)):
        settings.MIDDLEWARE = middleware
        answers = await visit()
        shown.append([seen(answer) for answer in answers])
        told = [answer.content.count(b'class="notice') for answer in answers[-2:]]
        assert told == [1, 0], [answer.status_code for answer in answers]
        await query(User.objects.all().delete)
    assert shown[0] == shown[1]
    statuses = [status for status, *_ in shown[1]]
    assert statuses[:7] == [200, 200, 404, 403, 201, 200, 200]
    assert statuses[7] == 302


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what asgiref calls in threads."""
    names: list[str] = []
    call = SyncToAsync.__call__

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(self.func.__name__)
        return await call(self, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", counted)
    return names


async def test_a_small_answer_makes_no_trips_for_its_middleware(settings: Settings, trips: list[str]) -> None:
    settings.MIDDLEWARE = DJANGOS
    await AsyncClient().get("/api/services/status")
    before = len(trips)
    trips.clear()
    settings.MIDDLEWARE = on_the_loop(DJANGOS)
    await AsyncClient().get("/api/services/status")
    assert len(trips) <= 3
    assert before > 12


@pytest.mark.parametrize(
    ("brought", "status", "asks_who"),
    [({}, 503, 0), ({"Cookie": "sessionid=abc"}, 503, 1), ({"Authorization": "Token abc"}, 401, 1)],
)
async def test_a_refusal_goes_to_a_thread_for_the_database_only(
    settings: Settings, trips: list[str], brought: dict[str, str], status: int, asks_who: int
) -> None:
    settings.MIDDLEWARE = on_the_loop(DJANGOS)
    await query(mutex.acquire, "lightweight-llm", "somebody")
    trips.clear()
    ask = {"message": "Hello"}
    response = await AsyncClient().post(
        "/api/lightweight-llm/chat", ask, content_type="application/json", headers=brought
    )
    assert response.status_code == status
    assert trips.count("initial") == asks_who
    assert set(trips) - {"initial"} <= {"sync_send", "log_response", "close"}  # the test client's own


def test_none_of_djangos_is_left() -> None:
    assert [path for path in on_the_loop(DJANGOS) if path.startswith("django.")] == []

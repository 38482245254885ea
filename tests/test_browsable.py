"""The API as pages: for browsers that ask for one, and for nobody else."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from leases import mutex
from tests.described import FILLED, operations

pytestmark = pytest.mark.usefixtures("leases")

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
PATHS = sorted({path for path, _, _ in operations() if path != "/api/schema"})


def visit(client: APIClient, path: str, method: str = "GET", **more: Any) -> Any:
    return client.generic(method, path.format_map(FILLED), HTTP_ACCEPT=BROWSER, **more)


@pytest.mark.parametrize("path", PATHS)
def test_every_route_is_a_page_for_a_browser(api: APIClient, path: str) -> None:
    page = visit(api, path)
    assert page["Content-Type"] == "text/html; charset=utf-8"
    assert page.status_code in (200, 400, 401, 404, 405)
    text = page.content.decode()
    assert f"HTTP {page.status_code}" in text
    assert "/sign-in/?next=" in text
    inline = re.findall(r"<style|<script(?![^>]*(?: src=|application/json))|\sstyle=|\son\w+=", text)
    assert inline == []
    posted = visit(api, path, "POST", data="{", content_type="application/json")
    assert posted.status_code in (400, 401, 405)
    if posted.status_code == 400:
        assert 'name="_content"' in text  # the form for it
        assert "The request&#x27;s body is not valid JSON." in posted.content.decode()


@pytest.mark.parametrize(
    "accept",
    [None, "*/*", "application/json", "text/plain", "nonsense", "", "text/html;q=0", "image/png", "a/b;q=x",
     "text/html;q=0.1, */*", "application/json, text/html"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api", "/api/services/status", "/api/documents", "/api/RAG/search"])
def test_everybody_else_reads_json(api: APIClient, path: str, accept: str | None) -> None:
    headers: Any = {} if accept is None else {"HTTP_ACCEPT": accept}
    answer = api.get(path, **headers)
    assert answer.status_code in (200, 400)
    assert answer["Content-Type"] == "application/json"
    answer.json()


def test_a_busy_service_is_a_page_too(api: APIClient) -> None:
    grant = mutex.acquire("lightweight-llm", "user:7")
    body = '{"message": "hello"}'
    page = visit(api, "/api/lightweight-llm/chat", "POST", data=body, content_type="application/json")
    assert page.status_code == 503
    assert "Someone else is using the chat service right now." in page.content.decode()
    assert "someone else is using" in visit(api, "/api/services/status").content.decode().lower()
    mutex.release(grant)


def test_a_page_knows_who_is_signed_in_and_its_forms_need_their_token() -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("ann"))
    text = visit(client, "/api/conversations").content.decode()
    assert "Sign out" in text
    assert "ann" in text
    token = re.search(r'"csrfToken": "(\w+)"', text)
    assert token
    body = {"data": '{"title": "Cats"}', "content_type": "application/json"}
    assert visit(client, "/api/conversations", "POST", **body).status_code == 403
    made = visit(client, "/api/conversations", "POST", **body, HTTP_X_CSRFTOKEN=token[1])
    assert made.status_code == 201
    assert "Cats" in visit(client, "/api/conversations").content.decode()


def test_the_root_leads_to_every_resource(api: APIClient) -> None:
    resources = api.get("/api").json()["resources"]
    assert {"status", "documents", "conversations", "description", "docs"} <= set(resources)
    for address in resources.values():
        assert address.startswith("http://testserver/api/")
        assert visit(api, address.removeprefix("http://testserver")).status_code in (200, 405)


def test_looking_around_begins_no_session(api: APIClient) -> None:
    for path in ("/api", "/api/documents", "/api/docs"):
        assert visit(api, path).status_code == 200
    assert "sessionid" not in api.cookies

"""What every answer says to browsers, whatever kind of answer it is."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from django.contrib.auth.models import User

from tests.server import PRODUCTION, running_server

PASSWORD = "correct horse battery"


@pytest.fixture
def server(leases: None) -> Iterator[str]:
    with running_server(**PRODUCTION, ANONYMOUS_RATE="2/hour") as base:
        yield base


def test_every_kind_of_answer_is_guarded(server: str) -> None:
    with httpx.Client(base_url=server, timeout=60) as client:
        answers = {
            "page": client.get("/"),
            "sign-in": client.get("/sign-in/"),
            "redirect": client.get("/admin/"),
            "no page": client.get("/nowhere/"),
            "forbidden page": client.post("/sign-out/"),
            "strange host": client.get("/", headers={"Host": "evil.example"}),
            "api": client.get("/api/RAG/documents"),
            "status": client.get("/api/services/status"),
            "nothing in the api": client.get("/api/nowhere"),
            "wrong method": client.put("/api/RAG/documents"),
            "wrong body": client.post("/api/lightweight-llm/chat", content=b"{"),
            "no session": client.get("/api/RAG/documents", headers={"Authorization": "Token x"}),
            "stream": client.post(
                "/api/lightweight-llm/chat",
                json={"message": "Hi.", "max_length": 1},
                headers={"Accept": "text/event-stream"},
            ),
            "too often": client.post("/api/lightweight-llm/chat", json={}),
        }
        outside = {
            "static": client.get("/static/js/chat.js"),
            "no static": client.get("/static/nowhere.js"),
            "above static": client.get("/static/%2e%2e/%2e%2e/etc/passwd"),
            "no name": client.get("/static/%00.js"),
            "too large": client.post("/api/RAG/search", content=b" " * 3_000_000),
        }
    expected = [200, 200, 302, 404, 403, 400, 200, 200, 404, 405, 415, 401, 200, 429]
    assert [answer.status_code for answer in answers.values()] == expected
    assert [answer.status_code for answer in outside.values()] == [200, 404, 404, 404, 413]
    for name, answer in (answers | outside).items():
        assert answer.headers.get("X-Content-Type-Options") == "nosniff", name
        assert "server" not in answer.headers or "uvicorn" in answer.headers["server"]
    for name, answer in answers.items():
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, name
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_cookies_are_for_this_site_alone(leases: None) -> None:
    User.objects.create_user("ann", password=PASSWORD)
    with running_server(
        DEBUG="False", SECRET_KEY=PRODUCTION["SECRET_KEY"], FORWARDED_ALLOW_IPS="127.0.0.1"
    ) as base:
        https = {"X-Forwarded-Proto": "https", "Referer": base.replace("http:", "https:")}
        page = httpx.get(f"{base}/sign-in/", headers=https)
        csrf = page.cookies["csrftoken"]
        form = {"username": "ann", "password": PASSWORD, "csrfmiddlewaretoken": csrf}
        signed_in = httpx.post(
            f"{base}/sign-in/", data=form, headers=https | {"Cookie": f"csrftoken={csrf}"}, timeout=30
        )
        assert signed_in.status_code == 302
        cookies = {cookie.split("=")[0]: cookie for cookie in signed_in.headers.get_list("Set-Cookie")}
        assert set(cookies) == {"csrftoken", "sessionid"}
        for cookie in cookies.values():
            assert "; Secure" in cookie
            assert "; HttpOnly" in cookie
            assert "; SameSite=Lax" in cookie
            assert "Domain" not in cookie


def test_methods_that_tell_too_much_do_nothing(server: str) -> None:
    address = urlsplit(server)
    for method in (b"TRACE", b"TRACK", b"CONNECT", b"DEBUG", b"PROPFIND"):
        for path in (b"/", b"/api/RAG/documents", b"/status/"):
            with socket.create_connection((address.hostname, address.port), timeout=10) as client:
                client.sendall(
                    b"%s %s HTTP/1.1\r\nHost: localhost\r\nX-Secret: marker\r\nConnection: close\r\n\r\n"
                    % (method, path)
                )
                answer = b"".join(iter(lambda: client.recv(65_536), b""))
            assert answer.split(b" ")[1] in (b"400", b"403", b"405"), answer[:200]
            assert b"marker" not in answer

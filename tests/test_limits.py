"""What no request may do, on a real server."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server import running_server

LIMIT = 11 * 1024 * 1024


@pytest.fixture
def server(leases: None) -> Iterator[str]:
    with running_server() as base:
        yield base


def test_a_body_that_declares_too_much_is_refused_before_it_is_sent(server: str) -> None:
    address = urlsplit(server)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(
            b"POST /api/RAG/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % (LIMIT + 1)
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_declares_nothing_is_counted(server: str) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 5 * LIMIT:
            sent += 65_536
            yield b" " * 65_536

    try:
        response = httpx.post(
            f"{server}/api/RAG/upload",
            content=endless(),
            headers={"Content-Type": "application/json"},
            timeout=30,
        )
    except httpx.TransportError:
        pass  # the server hung up in the middle, as it may
    else:
        assert response.status_code == 413
        assert response.json()["success"] is False
    assert sent < 5 * LIMIT
    assert httpx.get(f"{server}/api/services/status", timeout=10).status_code == 200


def test_an_upload_may_be_larger_than_what_else_is_sent(server: str) -> None:
    form = {"file": ("cats.gif", b"GIF89a".ljust(10 * 1024 * 1024))}
    for path in ("/api/RAG/upload", "/api/RAG/upload/"):
        read = httpx.post(f"{server}{path}", files=form, timeout=60)
        assert read.status_code == 400
        assert "other kinds cannot be read" in read.json()["error"]
    with httpx.Client(base_url=server, timeout=60) as visitor:
        visitor.get("/documents/")
        token = {"csrfmiddlewaretoken": visitor.cookies["csrftoken"], "action": "upload"}
        assert visitor.post("/documents/", data=token, files=form).status_code == 302
    refused = httpx.post(f"{server}/api/RAG/search", files=form, timeout=60)
    assert refused.status_code == 413
    assert "2 MB" in refused.json()["error"]


def test_the_limit_itself_may_be_sent(server: str) -> None:
    most = 2 * 1024 * 1024
    for length, status in ((most, 400), (most + 1, 413)):
        body = b'{"query": ""}'.ljust(length)
        headers = {"Content-Type": "application/json"}
        for content in (body, iter([body[:most], body[most:]])):
            answer = httpx.post(f"{server}/api/RAG/search", content=content, headers=headers, timeout=30)
            assert answer.status_code == status


def test_a_length_that_is_no_number_is_refused(server: str) -> None:
    address = urlsplit(server)
    for length in (b"abc", b"-1", b"1e3"):
        with socket.create_connection((address.hostname, address.port), timeout=10) as client:
            client.sendall(
                b"POST /api/RAG/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: %b\r\n\r\n" % length
            )
            assert client.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_a_body_without_a_length_is_read_as_any_other(server: str) -> None:
    note = b'{"title": "Note", "content": "Cats purr.", "contentType": "text"}'
    form = httpx.Request("POST", server, files={"file": ("cats.txt", b"Cats purr. " * 10_000)})
    for content, kind in ((note, "application/json"), (form.read(), form.headers["Content-Type"])):
        pieces = iter([content[:20], content[20:]])
        answer = httpx.post(
            f"{server}/api/RAG/upload", content=pieces, headers={"Content-Type": kind}, timeout=30
        )
        assert answer.request.headers["Transfer-Encoding"] == "chunked"
        assert answer.status_code == 201, answer.text


def test_a_post_is_never_redirected(server: str) -> None:
    for path in ("/api/RAG/search", "/api/RAG/search/"):
        response = httpx.post(f"{server}{path}", json={"query": ""}, timeout=10)
        assert response.status_code == 400


def is_alive(server: str) -> bool:
    return httpx.get(f"{server}/api/services/status", timeout=10).status_code == 200


LONG = b"x" * 200_000


def test_long_heads_are_refused(server: str) -> None:
    address = urlsplit(server)
    rests = [
        b"?q=" + LONG + b" HTTP/1.1",
        b" HTTP/1.1\r\nX-Long: " + LONG,
        b" HTTP/1.1\r\nCookie: " + b"; ".join(b"c%d=x" % number for number in range(20_000)),
        b" HTTP/1.1\r\n" + b"\r\n".join(b"X-%d: %s" % (number, b"x" * 50) for number in range(5000)),
    ]
    for path, rest in product((b"/api/services/status", b"/", b"/static/css/site.css"), rests):
        with socket.create_connection((address.hostname, address.port), timeout=10) as client:
            try:
                client.sendall(b"GET " + path + rest + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = client.recv(1000)
            except ConnectionError:
                pass  # the server hung up in the middle, as it may
            else:
                assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 414 ", b"HTTP/1.1 431 "))
        assert is_alive(server)


def test_a_head_in_pieces_is_read_up_to_the_limit_and_no_further(server: str) -> None:
    address = urlsplit(server)
    begun = b"GET /api/services/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Long: "
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(begun)
        for _ in range(12):
            client.sendall(b"x" * 1000)
        client.sendall(b"\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(begun)
        sent = 0
        with suppress(ConnectionError):
            while sent < 20_000_000:
                sent += client.send(b"x" * 10_000)
            assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert sent < 20_000_000
    assert is_alive(server)


def test_what_follows_a_body_is_no_header(server: str) -> None:
    address = urlsplit(server)
    head = (
        b"POST /api/RAG/search HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    body = b'{"query": "tea"}'
    for trailer, status in ((b"Host: elsewhere\r\n", b"200"), (b"X-Long: " + LONG + b"\r\n", b"400")):
        with socket.create_connection((address.hostname, address.port), timeout=60) as client:
            client.sendall(head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n" + trailer + b"\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 " + status)


def test_forms_of_too_many_parts_are_refused(server: str) -> None:
    for path in ("/api/RAG/upload", "/documents/", "/sign-in/", "/"):
        with httpx.Client(base_url=server, timeout=60) as client:
            page = client.get("/sign-in/")
            token = {"csrfmiddlewaretoken": page.cookies["csrftoken"]}
            many = {f"field{number}": "x" for number in range(2000)}
            files = [("file", (f"{number}.txt", b"tea")) for number in range(200)]
            forms: list[dict[str, Any]] = [
                {"data": token | many, "files": files[:1]},
                {"data": token, "files": files},
            ]
            if not path.startswith("/api/"):
                forms.append({"data": token | many})
            for form in forms:
                assert client.post(path, **form).status_code == 400
    assert is_alive(server)


def test_json_that_would_exhaust_a_reader_is_refused(server: str) -> None:
    for body in (
        "[" * 500_000 + "]" * 500_000,
        '{"a":' * 200_000 + "1" + "}" * 200_000,
        '{"message": "x", "max_length": ' + "9" * 1_000_000 + "}",
        '{"message": "x", "temperature": NaN}',
        '{"message": "x", "temperature": 1e999}',
        "\xff\xfe",
        "",
    ):
        for path in ("/api/lightweight-llm/chat", "/api/RAG/upload", "/api/RAG/search", "/api/conversations"):
            answer = httpx.post(
                f"{server}{path}",
                content=body.encode("latin-1"),
                headers={"Content-Type": "application/json"},
                timeout=60,
            )
            if path == "/api/conversations" and (body == "" or "message" in body):
                assert answer.status_code in (201, 400)  # it looks at a title, which may be left out
            else:
                assert answer.status_code == 400
        assert is_alive(server)

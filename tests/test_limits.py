"""What no request may do, on a real server."""

import socket
from collections.abc import Iterator
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


def test_a_post_is_never_redirected(server: str) -> None:
    for path in ("/api/RAG/search", "/api/RAG/search/"):
        response = httpx.post(f"{server}{path}", json={"query": ""}, timeout=10)
        assert response.status_code == 400

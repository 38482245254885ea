"""Answers leave at once, however many workers share a socket."""

import asyncio
import socket

import pytest

from config.event_loop import EventLoop
from tests.database import ROOT


async def sends_at_once(listening: socket.socket) -> bool:
    """Whether a connection that is accepted from the socket waits for no acknowledgement."""
    accepted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            connection = transport.get_extra_info("socket")
            accepted.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
            transport.close()

    async with await asyncio.get_running_loop().create_server(Protocol, sock=listening):
        _, writer = await asyncio.open_connection(*listening.getsockname()[:2])
        writer.close()
        return await asyncio.wait_for(accepted, 10)


@pytest.mark.parametrize(("loop", "at_once"), [(EventLoop, True), (asyncio.SelectorEventLoop, False)])
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_connections_of_a_socket_that_uvicorn_shares_among_workers(
    loop: type[asyncio.SelectorEventLoop], at_once: bool, family: int, address: str
) -> None:
    """Not so with asyncio's own: once it does that by itself, ours can go."""
    with socket.socket(family) as listening, asyncio.Runner(loop_factory=loop) as runner:
        try:
            listening.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no such address")
        assert runner.run(sends_at_once(listening)) is at_once


@pytest.mark.parametrize("script", ["scripts/serve", "deploy/serve"])
def test_servers_are_started_with_it(script: str) -> None:
    command = (ROOT / script).read_text().rpartition("exec ")[2]
    assert f"--loop {EventLoop.__module__}:{EventLoop.__qualname__}" in command

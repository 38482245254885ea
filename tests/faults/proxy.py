"""A proxy in front of PostgreSQL that loses answers: the server did what was asked, nobody hears of it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

READY = tuple(b"Z\x00\x00\x00\x05" + state for state in (b"I", b"T", b"E"))
"""The end of every answer: the server waits for the next query, in or out of a transaction."""
LONGEST = 100


@dataclass
class Proxy:
    """`cuts` counts the answers lost; `answers` all of them, lost or delivered."""

    port: int
    cuts: int = 0
    answers: int = 0
    _text: bytes = b""
    _number: int = 0
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    def cut(self, text: str) -> None:
        """Lose the answer of the next query with this text, and the connection with it."""
        assert 0 < len(text) < LONGEST
        self._text = text.encode()

    def cut_number(self, number: int) -> None:
        """Lose the answer that comes as the `number`-th from now on, 1 the next."""
        self._number = self.answers + number

    def spare(self) -> None:
        """Lose nothing any more."""
        self._text, self._number = b"", 0


@contextmanager
def running_proxy(socket: str) -> Iterator[Proxy]:
    """A proxy on a port of loopback that leads to the server's Unix socket, in a thread of this process."""
    loop = asyncio.new_event_loop()
    proxy = Proxy(0)

    async def serve(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_unix_connection(socket)
        connection = _Connection(proxy)
        pumps = {
            asyncio.ensure_future(connection.ask(client, to_server)),
            asyncio.ensure_future(connection.answer(server, to_client)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            to_client.transport.abort()
            to_server.transport.abort()

    def accept(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = loop.create_task(serve(client, to_client))
        proxy._connections.add(task)
        task.add_done_callback(proxy._connections.discard)

    async def end(server: asyncio.Server) -> None:
        server.close()
        for task in proxy._connections:
            task.cancel()
        await asyncio.gather(*proxy._connections, return_exceptions=True)

    listening = loop.run_until_complete(asyncio.start_server(accept, "127.0.0.1", 0, backlog=100))
    proxy.port = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(end(listening), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Connection:
    """One client's connection, and whether the answer that is on its way is to be lost."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._losing = False

    async def ask(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        seen = b""  # a text may come in two pieces
        with suppress(ConnectionError):
            while data := await client.read(65536):
                seen = seen[-LONGEST:] + data
                if self._proxy._text and self._proxy._text in seen:
                    self._proxy._text, seen = b"", b""
                    self._losing = True
                to_server.write(data)
                await to_server.drain()

    async def answer(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        last = b""
        with suppress(ConnectionError):
            while data := await server.read(65536):
                last = (last + data)[-6:]
                ends = last in READY
                self._proxy.answers += ends
                if ends and self._proxy.answers == self._proxy._number:
                    self._proxy._number, self._losing = 0, True
                if self._losing:
                    if ends:
                        self._proxy.cuts += 1
                        return
                    continue
                to_client.write(data)
                await to_client.drain()

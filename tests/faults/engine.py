"""A fake engine on loopback that serves whoever asks, and writes down when: the witness of exclusion.

A call is one line, `TOKEN SECONDS`; it ends after the seconds with the line `done`, or when the caller
hangs up. Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic


@dataclass
class Call:
    """One use of the engine; `ended` is None while it lasts."""

    token: int
    started: float
    ended: float | None = None


@dataclass
class Engine:
    """`calls` in the order of their beginnings."""

    port: int
    calls: list[Call] = field(default_factory=list)


@contextmanager
def running_engine() -> Iterator[Engine]:
    """An engine in a thread of the test's own process, which no fault of the test touches."""
    loop = asyncio.new_event_loop()
    engine = Engine(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await reader.readline()).split()
        if len(words) != 2:
            writer.close()
            return
        call = Call(int(words[0]), monotonic())
        engine.calls.append(call)
        hung_up = asyncio.ensure_future(reader.read())
        await asyncio.wait({hung_up}, timeout=float(words[1]))
        call.ended = monotonic()
        hung_up.cancel()
        with suppress(ConnectionError):
            writer.write(b"done\n")
            await writer.drain()
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000))
    engine.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def use(port: int, token: int, seconds: float) -> None:
    """One call of the engine from a synchronous worker; comes back when it is over."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as connection:
        connection.sendall(f"{token} {seconds}\n".encode())
        while connection.recv(100):
            pass


async def use_async(port: int, token: int, seconds: float) -> None:
    """The same from a coroutine; hangs up at once when it is cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{token} {seconds}\n".encode())
        await reader.read()
    finally:
        writer.transport.abort()

"""An OpenAI-compatible server on loopback that does exactly what a test tells it, for timing and faults."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

REASONS = {200: "OK", 302: "Found"}


@dataclass
class Call:
    """One request, and the means to answer it piece by piece."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client has closed the connection."""

    async def begin(
        self, status: int = 200, content_type: str = "text/event-stream", headers: str = ""
    ) -> None:
        reason = REASONS.get(status, "Error")
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nConnection: close\r\n"
        await self.send(f"{head}{headers}\r\n".encode())

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def event(self, event: dict[str, Any] | str) -> None:
        text = event if isinstance(event, str) else json.dumps(event)
        await self.send(f"data: {text}\n\n".encode())

    async def token(self, text: str) -> None:
        await self.event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})

    async def finish(self, usage: dict[str, int] | None = None) -> None:
        await self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if usage:
            await self.event({"choices": [], "usage": usage})
        await self.event("[DONE]")

    async def answer(self, body: object, status: int = 200, content_type: str = "application/json") -> None:
        await self.begin(status, content_type)
        await self.send((body if isinstance(body, str) else json.dumps(body)).encode())

    def reset(self) -> None:
        """Breaks the connection off, as a crash does."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Call], Awaitable[None]]


class ScriptedEngineServer:
    """`routes` maps a path to what happens when it is asked; all else is 404. `calls` holds every request.
    A connection is closed when its script ends."""

    def __init__(self, routes: dict[str, Script]) -> None:
        self.routes = routes
        self.calls: list[Call] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for call in self.calls:
            call.writer.transport.abort()

    def asked(self, path: str) -> list[Call]:
        return [call for call in self.calls if call.path == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = await _read_call(reader, writer)
        self.calls.append(call)
        script = asyncio.ensure_future(self.routes.get(call.path, _unknown)(call))
        try:
            listening = asyncio.ensure_future(_listen(reader, call.hung_up))
            await asyncio.wait([script, listening], return_when=asyncio.FIRST_COMPLETED)
            if not script.done():
                await asyncio.sleep(0)
                script.cancel()
            listening.cancel()
            await asyncio.gather(script, listening, return_exceptions=True)
        finally:
            writer.close()


async def _unknown(call: Call) -> None:
    await call.answer({"error": {"message": "no such route"}}, status=404)


async def _listen(reader: asyncio.StreamReader, hung_up: asyncio.Event) -> None:
    try:
        await reader.read()
    except ConnectionError:
        pass
    hung_up.set()


async def _read_call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    length = int(headers.get("content-length", 0))
    body = json.loads(await reader.readexactly(length)) if length else {}
    return Call(method, path, headers, body, writer)

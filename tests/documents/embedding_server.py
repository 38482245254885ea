"""A scripted OpenAI-compatible embedding server on loopback, for timing and faults."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self


@dataclass(frozen=True)
class Answer:
    """What to send: `body`, of which Content-Length promises `missing` bytes more than come.

    A stalled answer keeps the connection open after its last byte, until the client closes it.
    """

    body: bytes
    status: int = HTTPStatus.OK
    missing: int = 0
    stalled: bool = False


@dataclass(frozen=True)
class Request:
    """What came in. `headers` has lower-case names."""

    target: str
    headers: dict[str, str]
    question: dict[str, Any]


def embeddings(vectors: Sequence[Any]) -> Answer:
    """The right answer, in the right order."""
    data = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
    ]
    return Answer(json.dumps({"object": "list", "data": data, "model": "scripted"}).encode())


@dataclass
class EmbeddingServer:
    """Answers each request with what `script` makes of it; `async with` starts and stops it."""

    script: Callable[[Request], Answer]
    requests: list[Request] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._arrived = asyncio.Event()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}/v1"

    async def arrived(self) -> None:
        """Return once the first request is in."""
        await self._arrived.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await self._read(reader)
            self.requests.append(request)
            self._arrived.set()
            answer = self.script(request)
            writer.write(
                f"HTTP/1.1 {answer.status} Scripted\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(answer.body) + answer.missing}\r\nConnection: close\r\n\r\n".encode()
                + answer.body
            )
            await writer.drain()
            if answer.stalled:
                await reader.read()
        except ConnectionError:
            pass  # the client had enough
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        question = json.loads(await reader.readexactly(int(headers["content-length"])))
        return Request(first.split()[1], headers, question)

"""Requests to a server on this machine, as fast as so many connections can send them one after another."""

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    """One request, the same each time; `expected` is the status that it must have."""

    method: str
    path: str
    body: bytes = b""
    expected: int = 200

    def encoded(self, host: str) -> bytes:
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(self.body)}\r\n"
        kind = "Content-Type: application/json\r\n" if self.body else ""
        return f"{head}{kind}\r\n".encode() + self.body


async def latencies(base: str, request: Request, *, connections: int, seconds: float) -> list[float]:
    """Seconds that each request took until its whole answer was there."""
    address = urlsplit(base)
    encoded = request.encoded(address.netloc)
    until = time.perf_counter() + seconds
    taken: list[float] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while (began := time.perf_counter()) < until:
            writer.write(encoded)
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            assert status == request.expected, head
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            )
            await reader.readexactly(length)
            taken.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return taken

"""Requests to the engines' servers, over connections that end with them."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import aiohttp

from leases.request_id import headers as request_headers

MAX_HEADER = 64 * 1024  # bytes
MAX_HEADERS = 1000
"""Of an answer: there are proxies that add much."""


class _Connector(aiohttp.TCPConnector):
    allowed_protocol_schema_set = frozenset({"http", "https"})


def session(headers: Mapping[str, str], connect: float | None = None) -> aiohttp.ClientSession:
    """For one call, since a session must not outlive its event loop. `connect` is how many seconds that
    may take."""
    return aiohttp.ClientSession(
        headers={**headers, **request_headers()},
        timeout=aiohttp.ClientTimeout(total=None, connect=connect),
        connector=_Connector(force_close=True),
        json_serialize=partial(json.dumps, ensure_ascii=False, separators=(",", ":")),
        max_line_size=MAX_HEADER,
        max_field_size=MAX_HEADER,
        max_headers=MAX_HEADERS,
    )


@asynccontextmanager
async def asked(
    session: aiohttp.ClientSession, method: str, url: str, body: Any = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer, whatever its status, without following it elsewhere. Raises aiohttp.ClientError, and
    ValueError for what cannot be asked."""
    response = await begun(session, method, url, body)
    try:
        yield response
    finally:
        hang_up(response)


async def begun(
    session: aiohttp.ClientSession, method: str, url: str, body: Any = None
) -> aiohttp.ClientResponse:
    """The same, for who hangs up in the end."""
    response = await session.request(method, url, json=body, allow_redirects=False)
    _told_of_the_end(response)
    return response


async def whole(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    """The body, or None if it has more than `most` bytes, of which no more are read."""
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) > most:
            return None
    return bytes(content)


def hang_up(response: aiohttp.ClientResponse) -> None:
    """End the connection at once: over TLS, to close it is to wait for the other side."""
    if (transport := _transport(response)) is not None:
        transport.abort()
    response.close()


def cut(response: aiohttp.ClientResponse) -> None:
    """End the connection from any thread; who reads the answer is told that it broke off."""
    with suppress(AttributeError, OSError):  # it may be ending by itself just now
        if (transport := _transport(response)) is not None:
            transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _transport(response: aiohttp.ClientResponse) -> asyncio.Transport | None:
    connection = response.connection  # none when all is read
    return None if connection is None else connection.transport


def _told_of_the_end(response: aiohttp.ClientResponse) -> None:
    """Whoever reads a body learns that its connection has ended: aiohttp forgets to say so where the body
    was malformed."""
    connection = response.connection
    protocol = None if connection is None else connection.protocol
    closed = None if protocol is None else protocol.closed
    if closed is None:
        return

    def tell(ended: "asyncio.Future[None]") -> None:
        if not ended.cancelled():
            ended.exception()  # seen
        if not response.content.is_eof() and response.content.exception() is None:
            response.content.set_exception(aiohttp.ClientPayloadError("The answer broke off."))

    closed.add_done_callback(tell)

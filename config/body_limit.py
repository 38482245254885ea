"""A bound on request bodies. Django's ASGI handler spools a body of any length before a view sees it."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.conf import settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BodyTooLarge(Exception):  # noqa: N818
    """The client sent more than its request may carry."""


class BodyLimit:
    """ASGI middleware: 413 for a body over its path's limit, declared or not, before it is stored.

    A body that came in pieces, without a length, is given the length it had: DRF takes it for empty else.
    """

    def __init__(self, application: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self.application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        most = (
            settings.UPLOAD_MAX_BYTES
            if scope["path"] in settings.UPLOAD_PATHS
            else settings.REQUEST_MAX_BYTES
        )
        declared = _declared_length(scope)
        if (declared or 0) > most:
            await _refuse(send, most)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise BodyTooLarge
            complete = message["type"] == "http.request" and not message.get("more_body", False)
            if complete and received and declared is None:
                # Django makes its request of the scope when the body is complete.
                scope["headers"] = [*scope["headers"], (b"content-length", b"%d" % received)]
            return message

        try:
            await self.application(scope, bounded, send)
        except BodyTooLarge:
            await _refuse(send, most)


def _declared_length(scope: Message) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return None


async def _refuse(send: Send, most: int) -> None:
    megabytes = most // (1024 * 1024)
    body = json.dumps(
        {
            "success": False,
            "error": f"That is too much at once: send at most {megabytes} MB. Please split it.",
        }
    ).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})

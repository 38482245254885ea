"""What is done for every request, whatever answers it: its id, its line in the log, its count."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any

from django.conf import settings
from django.contrib.admindocs.views import simplify_regex
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from django.utils.functional import LazyObject

from config.metrics import count_request
from leases.request_id import HEADER, begin_request

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
LEFT = 499  # the status of a request whose client left before there was an answer, as nginx has it
NO_ROUTE = "(none)"
OFTEN = {"/healthz", "/readyz", "/metrics"}  # asked by machines all day: logged at DEBUG only

_name = HEADER.lower().encode()


class Requests:
    """ASGI middleware, the outermost: an answer is over when its last byte is sent, or its client is gone."""

    def __init__(self, application: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self.application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        answer = Answer(scope, begin_request(_brought(scope)), receive, send)
        try:
            await self.application(scope, answer.receive, answer.send)
        finally:
            if not answer.complete:
                _tell(scope, answer)


class Answer:
    """What becomes of one request."""

    def __init__(self, scope: Message, request_id: str, receive: Receive, send: Send) -> None:
        self.began = perf_counter()
        self.complete = self.client_left = False
        self.bytes = 0
        self._scope = scope
        self._id = request_id.encode()
        self._started: int | None = None
        self._receive = receive
        self._send = send

    @property
    def status(self) -> int:
        if self._started is not None:
            return self._started
        return LEFT if self.client_left else 500

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.complete:
            self.client_left = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), (_name, self._id)]}
        await self._send(message)
        if message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self.complete:
                _tell(self._scope, self)


def _brought(scope: Message) -> str:
    for name, value in scope["headers"]:
        if name == _name:
            return str(value.decode("latin-1"))
    return ""


def _tell(scope: Message, answer: Answer) -> None:
    seconds = perf_counter() - answer.began
    method = scope["method"] if scope["method"] in METHODS else "other"
    route = _route(scope)
    count_request(method, route, answer.status, seconds)
    about = {
        "method": method,
        "route": route,
        "status": answer.status,
        "ms": round(seconds * 1000, 1),
        "bytes": answer.bytes,
    }
    if (user := scope.get("leasehold.user")) is not None:
        about["user"] = user
    if answer.client_left:
        about["client_left"] = True
    level = logging.DEBUG if route in OFTEN else logging.INFO
    logger.log(level, "answered", extra={"about": about})


def _route(scope: Message) -> str:
    """The template of the address: what stands in the address itself is somebody's."""
    template: str | None = scope.get("leasehold.route")
    if template is not None:
        return _readable(template)
    static: str = settings.STATIC_URL
    return static if scope["path"].startswith(static) else NO_ROUTE


@lru_cache(maxsize=1000)
def _readable(template: str) -> str:
    return simplify_regex(template.removesuffix("/?$"))


@sync_and_async_middleware
def note_route(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Django middleware: tells `Requests` which route answered, and to whom if that is known."""
    if iscoroutinefunction(get_response):

        async def noted_async(request: HttpRequest) -> HttpResponseBase:
            try:
                response: HttpResponseBase = await get_response(request)
            finally:
                _note(request)
            return response

        return noted_async

    def noted(request: HttpRequest) -> HttpResponseBase:
        try:
            response: HttpResponseBase = get_response(request)
        finally:
            _note(request)
        return response

    return noted


def _note(request: HttpRequest) -> None:
    scope: Message = getattr(request, "scope", {})
    if request.resolver_match is not None:
        scope["leasehold.route"] = request.resolver_match.route
    # Whoever was not looked up for the answer is not looked up for the log.
    known = vars(request)
    user = known.get("user")
    if user is None or isinstance(user, LazyObject):
        user = known.get("_cached_user") or known.get("_acached_user")
    scope["leasehold.user"] = getattr(user, "pk", None)

"""Django's middleware on the event loop.

Under ASGI Django calls each half of each middleware in a thread, one after the other: seventeen trips a
request here, which took longer than everything else that a small answer takes. All that most of them look
at is headers, cookies and settings, so they are called where they are. Whatever may ask the database still
goes to a thread.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from asgiref.sync import sync_to_async
from csp.middleware import CSPMiddleware
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils.deprecation import MiddlewareMixin

UNREFUSED = {"GET", "HEAD", "OPTIONS", "TRACE"}


class OnTheLoop(MiddlewareMixin):
    """Calls both halves where it is, the second in a thread if `asks_database` says so."""

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase | None = None
        first: Callable[..., HttpResponseBase | None] | None = getattr(self, "process_request", None)
        if first is not None:
            response = first(request)
        get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]] = self.get_response  # type: ignore[assignment]
        response = response or await get_response(request)
        second: Callable[..., HttpResponseBase] | None = getattr(self, "process_response", None)
        if second is None:
            return response
        if self.asks_database(request):
            return await sync_to_async(second)(request, response)
        return second(request, response)

    def asks_database(self, request: HttpRequest) -> bool:
        """Whether `process_response` may ask the database."""
        return False


class Security(OnTheLoop, SecurityMiddleware): ...


class ContentSecurityPolicy(OnTheLoop, CSPMiddleware): ...


class FrameOptions(OnTheLoop, XFrameOptionsMiddleware): ...


class Common(OnTheLoop, CommonMiddleware): ...


class Authentication(OnTheLoop, AuthenticationMiddleware): ...


class Sessions(OnTheLoop, SessionMiddleware):
    def asks_database(self, request: HttpRequest) -> bool:
        return hasattr(request, "session") and request.session.modified


class Messages(OnTheLoop, MessageMiddleware):
    def asks_database(self, request: HttpRequest) -> bool:
        messages = getattr(request, "_messages", None)
        return messages is not None and (messages.used or messages.added_new)


class Csrf(OnTheLoop, CsrfViewMiddleware):
    async def process_view(  # type: ignore[override]
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        if request.method in UNREFUSED or getattr(view, "csrf_exempt", False):
            return super().process_view(request, view, args, kwargs)
        return await sync_to_async(super().process_view)(request, view, args, kwargs)  # a refusal is a page


_ON_THE_LOOP = {
    f"{base.__module__}.{base.__qualname__}": f"{made.__module__}.{made.__qualname__}"
    for made in OnTheLoop.__subclasses__()
    for _, base in [made.__bases__]
}


def on_the_loop(middleware: Sequence[str]) -> list[str]:
    """The same middleware, by its dotted paths, with these in the place of Django's.

    The settings name Django's own: its system checks look for those names.
    """
    return [_ON_THE_LOOP.get(path, path) for path in middleware]

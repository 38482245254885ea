"""How often somebody who has not signed in may ask for work that takes a machine's time.

The counts are kept in each process's memory, so that counting costs no query: with several workers, that
many times the rate can get through. The queue's limits hold for all of them together.
"""

from collections.abc import Callable
from functools import wraps
from math import ceil
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from config.addresses import network_of

if TYPE_CHECKING:  # which imports the default throttles itself
    from rest_framework.views import APIView


def too_often(seconds: float | None) -> tuple[str, int]:
    """The sentence, and the whole seconds to wait."""
    wait = max(ceil(seconds or 1), 1)
    unit = "second" if wait == 1 else "seconds"
    return f"That was too often in a short time. Please wait {wait} {unit} and try again.", wait


class AnonymousThrottle(SimpleRateThrottle):
    """ANONYMOUS_RATE for each address, for the methods that a view lists as `costly_methods`."""

    scope = "anonymous"

    def get_rate(self) -> Any:
        return settings.ANONYMOUS_RATE

    def parse_rate(self, rate: Any) -> tuple[int, int] | tuple[None, None]:
        return rate or (None, None)

    def get_cache_key(self, request: Request | HttpRequest, view: "APIView | None") -> str | None:
        costly = view is None or request.method in getattr(view, "costly_methods", ())
        return f"anonymous:{network_of(request)}" if costly and not request.user.is_authenticated else None


def throttled(page: Callable[..., Any]) -> Callable[..., HttpResponseBase]:
    """The same for a page: its forms do the same work in a browser without scripts."""

    @wraps(page)
    async def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method == "POST" and (refusal := await sync_to_async(_refusal)(request)):
            return refusal
        answer: HttpResponseBase = await page(request, *args, **kwargs)
        return answer

    return cast("Callable[..., HttpResponseBase]", answered)  # what Django's types say of async views, too


def _refusal(request: HttpRequest) -> HttpResponse | None:
    throttle = AnonymousThrottle()
    if throttle.allow_request(request, None):  # type: ignore[arg-type]
        return None
    sentence, wait = too_often(throttle.wait())
    page = render(request, "429.html", {"sentence": sentence}, status=429)
    page["Retry-After"] = str(wait)
    return page

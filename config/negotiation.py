"""JSON for everybody, and a page for a browser that would rather have one."""

from collections.abc import Iterable

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class JSONFirst(DefaultContentNegotiation):
    """The renderer that the client likes best; the first for one with an odd Accept header, never 406."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        by_type = {renderer.media_type: renderer for renderer in renderers}
        first = next(iter(by_type.values()))
        if request.META.get("HTTP_ACCEPT", "*/*") in ("*/*", first.media_type):
            return first, first.media_type  # what programs send needs no parsing
        preferred = request._request.get_preferred_type(list(by_type))
        renderer = by_type[preferred] if preferred else first
        return renderer, renderer.media_type

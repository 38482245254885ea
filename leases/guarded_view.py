"""The base of every view whose work runs under a lease."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.http import HttpResponseBase, StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from leases.event_stream import EventStream
from leases.owned_view import OwnedView
from leases.turn import Tell, Turn

logger = logging.getLogger(__name__)

EVENTS = "text/event-stream"
FAILED = "Something went wrong on our side. Please try again; if it happens again, tell the operator."

_WAIT = re.compile(r'\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;.*)?', re.IGNORECASE)


class GuardedView(OwnedView):
    """A view that queues for as long as its caller would, and streams if the caller likes.

    `Prefer: wait=SECONDS` (RFC 7240) says the one, `Accept: text/event-stream` the other.
    """

    costly_methods = ("POST",)
    success_status = 200
    wait: float | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.wait = wait_of(request.META.get("HTTP_PREFER", ""))

    async def answer(self, work: Callable[[Turn], Awaitable[dict[str, Any]]]) -> HttpResponseBase:
        """Do the work in its turn, and answer with the body that it returns.

        An error becomes the answer that it is, with its status; once a stream has begun, an `error` event.
        """
        turn = Turn(wait=self.wait)
        if not self._wants_events():
            if_cancelled(self.undo)
            return Response(await work(turn), status=self.success_status)

        def streamed(tell: Tell) -> Awaitable[dict[str, Any]]:
            return work(replace(turn, tell=tell))

        stream = EventStream(streamed, self._explain, self.undo)
        if_cancelled(stream.close)
        await stream.begin()
        return StreamingHttpResponse(
            stream,
            content_type=f"{EVENTS}; charset=utf-8",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    def undo(self) -> None:
        """Take back what the work did: its caller went away before the answer set out."""

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        if self.wait is not None:
            final["Preference-Applied"] = f"wait={self.wait:.10g}"
        return final

    def _wants_events(self) -> bool:
        if "text/" not in self.request.META.get("HTTP_ACCEPT", "").lower():
            return False  # sooner than by looking at all of it
        preferred: str | None = self.request._request.get_preferred_type(["application/json", EVENTS])
        return preferred == EVENTS

    def _explain(self, error: Exception) -> dict[str, Any]:
        response: Response | None = self.get_exception_handler()(error, self.get_exception_handler_context())
        if response is None:
            logger.error("A stream failed.", exc_info=error)
            return {"success": False, "error": FAILED, "status": 500}
        return {**response.data, "status": response.status_code}


def if_cancelled(undo: Callable[[], None]) -> None:
    """Call `undo` if the current request is cancelled before it has its response, as when its client goes."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - true inside a coroutine
    task.add_done_callback(lambda task: undo() if task.cancelled() else None)


def wait_of(preferences: str) -> float | None:
    """The seconds of a Prefer header's `wait`, at most LEASE_WAIT_MAX; None if it states none.

    The first of several counts, and what cannot be understood is passed over, as RFC 7240 has it.
    """
    for preference in preferences.split(","):
        if stated := _WAIT.fullmatch(preference):
            most: float = settings.LEASE_WAIT_MAX
            return min(float(stated[1]), most)
    return None

"""Every error of the API as the contract's body: {"success": false, "error": sentence}."""

from typing import Any

from django.core.exceptions import SuspiciousOperation
from rest_framework.exceptions import NotAuthenticated, Throttled
from rest_framework.response import Response

from chat.engines.base import EngineError, EngineTimeout
from chat.prompts import MessageTooLong
from config.errors import STRANGE
from config.throttles import too_often
from documents.embedders.base import EmbeddingError, EmbeddingTimeout
from documents.extraction import ExtractionBusy, ExtractionError, UnsupportedFile
from leases.exception_handler import exception_handler as lease_exception_handler

SIGN_IN = "Please sign in first, or send a token of yours: Authorization: Token …"

# The first kind that fits decides. Their texts are written for people.
STATUSES: list[tuple[type[Exception], int]] = [
    (EngineTimeout, 504),
    (EngineError, 502),
    (EmbeddingTimeout, 504),
    (EmbeddingError, 502),
    (UnsupportedFile, 400),
    (ExtractionBusy, 503),
    (ExtractionError, 422),
    (MessageTooLong, 400),
]


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """The whole API's mapping from exceptions to answers; anything unknown stays a 500."""
    for kind, status in STATUSES:
        if isinstance(exc, kind):
            body = {"success": False, "error": str(exc)}
            if status in (502, 504):
                body["details"] = getattr(exc, "details", "")
            return Response(body, status=status, headers={"Retry-After": "30"} if status == 503 else None)
    if isinstance(exc, SuspiciousOperation):
        return Response({"success": False, "error": STRANGE}, status=400)
    response = lease_exception_handler(exc, context)
    if response is not None and isinstance(exc, NotAuthenticated):
        response.data = {"success": False, "error": SIGN_IN}
    if response is not None and isinstance(exc, Throttled):
        sentence, wait = too_often(getattr(exc, "wait", None))
        response.data = {"success": False, "error": sentence, "retryAfter": wait}
        response["Retry-After"] = str(wait)
    if response is not None and "success" not in response.data:
        response.data = {"success": False, "error": _sentence(response.data)}
    return response


def _sentence(detail: Any) -> str:
    """The first thing that is wrong, however deep DRF has wrapped it."""
    while isinstance(detail, dict | list):
        inner = list(detail.values()) if isinstance(detail, dict) else detail
        detail = next((item for item in inner if item), "")
    return str(detail)

"""Refusals and lost leases as HTTP answers, for DRF's EXCEPTION_HANDLER setting."""

from typing import Any

from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from leases.exceptions import LeaseError, LeaseLost, ServiceBusy, UnknownService


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """ServiceBusy and LeaseLost become 503 with `serviceUnavailable` and Retry-After, UnknownService 404; the
    rest is DRF's."""
    if isinstance(exc, ServiceBusy):
        return _unavailable(
            exc,
            reason=exc.reason,
            service=exc.service,
            retry_after=exc.retry_after,
            queue_length=exc.queue_length,
        )
    if isinstance(exc, LeaseLost):
        return _unavailable(exc, ended=exc.outcome, service=exc.service, retry_after=1)
    if isinstance(exc, UnknownService):
        return Response({"success": False, "error": str(exc)}, status=404)
    return drf_exception_handler(exc, context)


def _unavailable(
    exc: LeaseError, *, service: str, retry_after: int, queue_length: int = 0, **more: str
) -> Response:
    body = {
        "success": False,
        "error": str(exc),
        "serviceUnavailable": True,
        **more,
        "service": service,
        "retryAfter": retry_after,
        "queueLength": queue_length,
    }
    return Response(body, status=503, headers={"Retry-After": str(retry_after)})

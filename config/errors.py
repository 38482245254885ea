"""Pages for what no view answers: JSON below /api/, Django's own elsewhere."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path.startswith("/api/"):
        return _json("There is nothing at this address. Please check it for a typing error.", 404)
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    if request.path.startswith("/api/"):
        return _json("Something went wrong on our side. Please try again in a moment.", 500)
    return defaults.server_error(request)


def _json(sentence: str, status: int) -> HttpResponse:
    body: dict[str, Any] = {"success": False, "error": sentence}
    return JsonResponse(body, status=status)

"""Pages for what no view answers: JSON below /api/, Django's own elsewhere."""

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt

STRANGE = "The server cannot make sense of this request. Please check it and send it again."


NOTHING_HERE = "There is nothing at this address. Please check it for a typing error."


def _of_api(request: HttpRequest) -> bool:
    return request.path == "/api" or request.path.startswith("/api/")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _of_api(request):
        return _json(STRANGE, 400)
    return defaults.bad_request(request, exception)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _of_api(request):
        return _json("You may not do this. Please sign in with an account that may.", 403)
    return defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _of_api(request):
        return _json(NOTHING_HERE, 404)
    return defaults.page_not_found(request, exception)


@login_not_required
@csrf_exempt
def api_not_found(request: HttpRequest) -> HttpResponse:
    """What answers below /api/ where no other route does: with DEBUG, Django would show a page."""
    return _json(NOTHING_HERE, 404)


def server_error(request: HttpRequest) -> HttpResponse:
    if _of_api(request):
        return _json("Something went wrong on our side. Please try again in a moment.", 500)
    return defaults.server_error(request)


def _json(sentence: str, status: int) -> HttpResponse:
    body: dict[str, Any] = {"success": False, "error": sentence}
    return JsonResponse(body, status=status)

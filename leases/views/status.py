"""The public face of the leases."""

import json
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import TemplateView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from leases import schema
from leases.database import Together
from leases.status import public_status, states


class Status(APIView):
    """GET: which service is free, which is busy and since when."""

    @schema.status
    def get(self, request: Request) -> Response:
        return Response(public_status())


_body = Together(lambda: json.dumps(public_status()).encode())


@login_not_required
@csrf_exempt  # there is nothing to protect, and a wrong method deserves its own answer
@never_cache
async def status(request: HttpRequest) -> HttpResponse:
    """The same as a plain view, since it is asked most of all; one query for all who ask at once. Public."""
    if request.method not in ("GET", "HEAD"):
        body = {"success": False, "error": "This address can only be read: please use GET."}
        return JsonResponse(body, status=405, headers={"Allow": "GET, HEAD"})
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        return await sync_to_async(Status.as_view())(request)
    return HttpResponse(await _body.ask(), content_type="application/json")


@method_decorator(login_not_required, name="dispatch")
class StatusPage(TemplateView):
    """The services, as a page that stays right by itself where scripts run."""

    template_name = "leases/status.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(services=states(), **kwargs)

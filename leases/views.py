"""The public face of the leases."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import TemplateView

from leases.database import in_database
from leases.status import public_status, states


@csrf_exempt  # there is nothing to protect, and a wrong method deserves its own answer
@never_cache
async def status(request: HttpRequest) -> HttpResponse:
    """Which service is free, which is busy and since when. Public; one query."""
    if request.method not in ("GET", "HEAD"):
        body = {"success": False, "error": "This address can only be read: please use GET."}
        return JsonResponse(body, status=405, headers={"Allow": "GET, HEAD"})
    return JsonResponse(await in_database(public_status))


class StatusPage(TemplateView):
    """The services, as a page that stays right by itself where scripts run."""

    template_name = "leases/status.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(services=states(), **kwargs)

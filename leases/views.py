"""The public face of the leases."""

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from leases.status import public_status


@never_cache
@require_safe
async def status(request: HttpRequest) -> HttpResponse:
    """Which service is free, which is busy and since when. Public; one query."""
    return JsonResponse(await sync_to_async(public_status)())

"""The static files as the server itself gives them out."""

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.exceptions import SuspiciousOperation
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase


class StaticFiles(ASGIStaticFilesHandler):
    """Django's, with the header that its middleware would add: a file is what its type says."""

    def serve(self, request: HttpRequest) -> HttpResponse | FileResponse:
        """The file. Raises Http404, and does so too for a path that leads out of the directories."""
        try:
            return super().serve(request)
        except SuspiciousOperation as error:
            raise Http404 from error

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await super().get_response_async(request)
        response["X-Content-Type-Options"] = "nosniff"
        return response

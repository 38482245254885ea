"""The static files as the server itself gives them out."""

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.http import HttpRequest, HttpResponseBase


class StaticFiles(ASGIStaticFilesHandler):
    """Django's, with the header that its middleware would add: a file is what its type says."""

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await super().get_response_async(request)
        response["X-Content-Type-Options"] = "nosniff"
        return response

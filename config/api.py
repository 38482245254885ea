"""The API's own addresses: what there is, its description, and the description as a page."""

from django.views.generic import TemplateView
from drf_spectacular.renderers import OpenApiJsonRenderer2
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from config import schema

# What the API has, and the names of its addresses.
RESOURCES = {
    "status": "services-status",
    "services": "services",
    "leases": "leases",
    "tickets": "tickets",
    "holds": "holds",
    "documents": "documents",
    "stats": "stats",
    "conversations": "conversations",
    "chat": "chat",
    "documentChat": "document-chat",
    "description": "schema",
    "docs": "docs",
}


class Root(APIView):
    """GET: where to go on."""

    @schema.root
    def get(self, request: Request) -> Response:
        addresses = {name: reverse(view, request=request) for name, view in RESOURCES.items()}
        return Response({"success": True, "resources": addresses})


class Description(APIView):
    """GET: the OpenAPI description."""

    renderer_classes = [OpenApiJsonRenderer2]

    @schema.description
    def get(self, request: Request) -> Response:
        return Response(schema.openapi())


class Docs(TemplateView):
    """The description as a page on which requests can be tried out."""

    template_name = "api/docs.html"

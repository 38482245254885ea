"""The services as resources, and the switch of each."""

from typing import Any

from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from leases import operations, resource_schema
from leases import serializers as shapes
from leases.deed_view import DeedView
from leases.exceptions import UnknownService
from leases.models import Service
from leases.status import state_of, states


class ServiceList(APIView):
    """GET: all services and how they are. Public, as the status is."""

    permission_classes = ()

    @resource_schema.list_services
    def get(self, request: Request) -> Response:
        services = [shapes.service_fields(state) for state in states()]
        return Response({"success": True, "services": services})


class ServiceDetail(APIView):
    """GET: one service and how it is. Public."""

    permission_classes = ()

    @resource_schema.get_service
    def get(self, request: Request, service_id: str) -> Response:
        try:
            state = state_of(service_id)
        except UnknownService as error:
            raise Http404(str(error)) from None
        return Response({"success": True, **shapes.service_fields(state)})


@resource_schema.disable_service
class Disabling(DeedView):
    """POST: switch a service off, with a note that callers read."""

    needs = "leases.disable_service"
    shape = shapes.Note
    done = "The service is switched off. Callers read your note; whoever holds the service may finish."
    missed = "The service was switched off already."

    def carry_out(self, actor: str, asked: dict[str, Any], **what: str) -> bool:
        return operations.disable(known(what["service_id"]), actor=actor, note=asked["note"])


@resource_schema.enable_service
class Enabling(DeedView):
    """POST: switch a service on again."""

    needs = "leases.enable_service"
    done = "The service is switched on."
    missed = "The service was switched on already."

    def carry_out(self, actor: str, asked: dict[str, Any], **what: str) -> bool:
        return operations.enable(known(what["service_id"]), actor=actor, reason=asked["reason"])


def known(service_id: str) -> str:
    """The id, if there is such a service. Raises Http404."""
    if not Service.objects.filter(pk=service_id).exists():
        raise Http404(str(UnknownService(service_id)))
    return service_id

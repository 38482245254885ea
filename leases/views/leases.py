"""The running sessions as resources, and their end by force."""

from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now
from rest_framework.request import Request
from rest_framework.response import Response

from leases import operations, resource_schema
from leases import serializers as shapes
from leases.deed_view import DeedView, may
from leases.models import Lease
from leases.owned_view import OwnedView
from leases.owners import names
from leases.status import public_id
from leases.views.services import known


class LeaseView(OwnedView):
    """Everybody may see that a service is held; whose session it is, only operators and its holder."""

    def shown(self, request: Request, leases: QuerySet[Lease]) -> list[dict[str, Any]]:
        rows = list(leases.annotate(now=Now()))
        may_see = may(request, "leases.view_lease")
        people = names(row.owner for row in rows if may_see or row.owner == self.owner)
        return [
            shapes.lease_fields(row, now=row.now, yours=row.owner == self.owner, person=people.get(row.owner))
            for row in rows
        ]


class LeaseList(LeaseView):
    """GET: the sessions that run now."""

    @resource_schema.list_leases
    def get(self, request: Request) -> Response:
        return Response(
            {"success": True, "leases": self.shown(request, Lease.objects.live().order_by("service_id"))}
        )


class LeaseDetail(LeaseView):
    """GET: the session that holds a service now, null if nobody does."""

    @resource_schema.get_lease
    def get(self, request: Request, service_id: str) -> Response:
        shown = self.shown(request, Lease.objects.live().filter(service_id=known(service_id)))
        return Response({"success": True, "service": service_id, "lease": shown[0] if shown else None})


@resource_schema.force_release
class ForceRelease(DeedView):
    """POST: end this session whoever holds it; never another one."""

    needs = "leases.force_release"
    shape = shapes.ForcedEnd
    done = "The session is ended. Its holder reads that an administrator ended it."
    missed = "That session has ended already, and nobody else was touched."

    def carry_out(self, actor: str, asked: dict[str, Any], **what: str) -> bool:
        service_id = known(what["service_id"])
        lease = Lease.objects.live().filter(service_id=service_id).first()
        if lease is None or public_id(lease.session_id or "") != asked["sessionId"]:
            return False
        return operations.force_release(service_id, lease.fencing_token, actor=actor, reason=asked["reason"])

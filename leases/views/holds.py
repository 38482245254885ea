"""The history as a resource."""

from rest_framework.request import Request
from rest_framework.response import Response

from leases import resource_schema
from leases import serializers as shapes
from leases.deed_view import may
from leases.fields import valid_now
from leases.models import Hold
from leases.owned_view import OwnedView
from leases.owners import names


class HoldList(OwnedView):
    """GET: the caller's ended sessions, the newest first, by pages; for operators everybody's."""

    @resource_schema.list_holds
    def get(self, request: Request) -> Response:
        asked = valid_now(shapes.HoldPage, request.query_params)
        may_see = may(request, "leases.view_hold")
        holds = Hold.objects.all() if may_see else Hold.objects.for_owner(self.owner)
        for field, column in (("service", "service_id"), ("outcome", "outcome"), ("cursor", "pk__lt")):
            if asked[field] not in ("", None):
                holds = holds.filter(**{column: asked[field]})
        rows = list(holds.order_by("-pk")[: asked["limit"] + 1])
        shown = rows[: asked["limit"]]
        people = names(row.owner for row in shown)
        return Response(
            {
                "success": True,
                "holds": [shapes.hold_fields(row, people, owner=self.owner, by=may_see) for row in shown],
                "nextCursor": str(shown[-1].pk) if len(rows) > len(shown) else None,
            }
        )

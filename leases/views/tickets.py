"""The places in the queues as resources, and the way out of one."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from leases import mutex, operations, resource_schema
from leases import serializers as shapes
from leases.deed_view import DeedView, may
from leases.fields import valid_now
from leases.models import Ticket
from leases.owned_view import OwnedView
from leases.owners import names


class TicketList(OwnedView):
    """GET: the caller's places in the queues; for operators everybody's, by pages."""

    @resource_schema.list_tickets
    def get(self, request: Request) -> Response:
        asked = valid_now(shapes.Page, request.query_params)
        tickets = Ticket.objects.live()
        if not may(request, "leases.view_ticket"):
            tickets = tickets.for_owner(self.owner)
        if asked["service"]:
            tickets = tickets.filter(service_id=asked["service"])
        if asked["cursor"] is not None:
            tickets = tickets.filter(pk__gt=asked["cursor"])
        rows = list(tickets.order_by("pk")[: asked["limit"] + 1])
        shown, more = rows[: asked["limit"]], len(rows) > asked["limit"]
        people = names(row.owner for row in shown)
        places = mutex.places([row.waiter for row in shown])
        return Response(
            {
                "success": True,
                "tickets": [
                    shapes.ticket_fields(
                        *(row, places.get(row.waiter)),
                        yours=row.owner == self.owner,
                        person=people[row.owner],
                    )
                    for row in shown
                ],
                "nextCursor": str(shown[-1].pk) if more else None,
            }
        )


@resource_schema.remove_ticket
class Removal(DeedView):
    """POST: take somebody out of the queue."""

    needs = "leases.remove_from_queue"
    done = "Removed from the queue. Whoever waited there reads that an operator took them out."
    missed = "Nobody waits there any more."

    def carry_out(self, actor: str, asked: dict[str, Any], **what: str) -> bool:
        return operations.remove(int(what["ticket_id"]), actor=actor, reason=asked["reason"])

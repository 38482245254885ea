"""How services, leases, tickets and holds are described."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers

from leases import serializers as shapes
from leases.models import Outcome
from leases.schema import Error, ServiceStatus, Shape, Success, answer, asked, not_found, refused

SESSION = "1f175e3f36acef43696c4cc2b70122ba"
SERVICE_ID = OpenApiParameter(
    "service_id", str, OpenApiParameter.PATH, description="The service's id, such as `lightweight-llm`."
)
TICKET_ID = OpenApiParameter(
    "ticket_id", int, OpenApiParameter.PATH, description="The ticket's number, as the list of tickets has it."
)
NO_SERVICE = not_found("There is no service called 'vector'. The admin lists the services that exist.")
FORBIDDEN = refused(
    "The caller is no operator who may do this.",
    "This is for operators. Please sign in with an account that may do it.",
)
NEXT_CURSOR = "The `cursor` of the next page, null on the last one."


class Service(ServiceStatus):
    """One service, and whether it is free."""

    statusKey = serializers.CharField(  # noqa: N815
        help_text="Its name in the answer of `/api/services/status`."
    )


class ServiceList(Success):
    """All services."""

    services = Service(many=True, help_text="The services, by their ids.")


class OneService(Service, Success):
    """One service."""


class Lease(Shape):
    """A session that holds a service now."""

    service = serializers.CharField(help_text="The service's id.")
    sessionId = serializers.CharField(  # noqa: N815
        help_text="The session's public name, as the status lists it."
    )
    fencingToken = serializers.IntegerField(  # noqa: N815
        min_value=1, help_text="Rises by one with every grant of the service and never falls."
    )
    startTime = serializers.IntegerField(help_text="When it began, in milliseconds since 1970.")  # noqa: N815
    lastActivity = serializers.IntegerField(  # noqa: N815
        help_text="When its work last went on, in milliseconds since 1970."
    )
    expiresAt = serializers.IntegerField(  # noqa: N815
        help_text="When it ends unless it is renewed, in milliseconds since 1970."
    )
    duration = serializers.IntegerField(min_value=0, help_text="Milliseconds since it began.")
    offered = serializers.BooleanField(
        help_text="True for the seconds in which the next in the queue has not taken it up yet."
    )
    yours = serializers.BooleanField(help_text="Whether it is the caller's own.")
    person = serializers.CharField(
        allow_null=True, help_text="Whose it is, for operators and for its holder; null for everybody else."
    )


class LeaseList(Success):
    """The sessions that run now."""

    leases = Lease(many=True, help_text="One for each service that somebody holds.")


class OneLease(Success):
    """The session that holds a service now."""

    service = serializers.CharField(help_text="The service's id.")
    lease = Lease(allow_null=True, help_text="The session, null if nobody holds the service.")


class Ticket(Shape):
    """A place in a queue."""

    id = serializers.IntegerField(min_value=1, help_text="The ticket's number; the lower is served first.")
    service = serializers.CharField(help_text="The service that is waited for.")
    position = serializers.IntegerField(
        allow_null=True, min_value=1, help_text="The place in the queue; 1 is next, null is just leaving."
    )
    enqueuedAt = serializers.IntegerField(  # noqa: N815
        help_text="When the wait began, in milliseconds since 1970."
    )
    expiresAt = serializers.IntegerField(  # noqa: N815
        help_text="When the place is given up unless its server keeps it, in milliseconds since 1970."
    )
    yours = serializers.BooleanField(help_text="Whether it is the caller's own.")
    person = serializers.CharField(help_text="Who waits.")


class TicketList(Success):
    """Places in the queues."""

    tickets = Ticket(many=True, help_text="The caller's own; for operators everybody's.")
    nextCursor = serializers.CharField(allow_null=True, help_text=NEXT_CURSOR)  # noqa: N815


class Hold(Shape):
    """A session that has ended."""

    id = serializers.IntegerField(min_value=1, help_text="The entry's number in the history.")
    service = serializers.CharField(help_text="The service that was held.")
    sessionId = serializers.CharField(help_text="The session's public name.")  # noqa: N815
    fencingToken = serializers.IntegerField(help_text="The number of its grant.")  # noqa: N815
    enqueuedAt = serializers.IntegerField(  # noqa: N815
        allow_null=True, help_text="When its owner began to wait; null if there was no wait."
    )
    startTime = serializers.IntegerField(help_text="When it began, in milliseconds since 1970.")  # noqa: N815
    lastActivity = serializers.IntegerField(help_text="When its work last went on.")  # noqa: N815
    endedAt = serializers.IntegerField(help_text="When it ended, in milliseconds since 1970.")  # noqa: N815
    outcome = serializers.ChoiceField(
        Outcome.values,
        help_text="How it ended: given back, without activity, without a heartbeat, by an operator, or "
        "never taken up.",
    )
    yours = serializers.BooleanField(help_text="Whether it was the caller's own.")
    person = serializers.CharField(help_text="Whose it was.")
    endedBy = serializers.CharField(  # noqa: N815
        allow_blank=True, help_text="For operators: who ended it by force; else empty."
    )
    reason = serializers.CharField(allow_blank=True, help_text="For operators: why; else empty.")


class HoldList(Success):
    """The history, the newest first."""

    holds = Hold(many=True, help_text="The caller's own; for operators everybody's.")
    nextCursor = serializers.CharField(allow_null=True, help_text=NEXT_CURSOR)  # noqa: N815


class Done(Success):
    """What an operator did."""

    message = serializers.CharField(help_text="What happens now, in words for a person.")


CHAT: dict[str, Any] = {
    "statusKey": "chat",
    "id": "lightweight-llm",
    "name": "Chat Service",
    "available": True,
    "message": None,
    "enabled": True,
    "health": {"ready": True, "model": "SmolLM2-135M-Instruct.Q4_1", "error": None},
    "queue": {"length": 0, "estimatedWaitSeconds": None},
}
LEASE: dict[str, Any] = {
    "service": "lightweight-llm",
    "sessionId": SESSION,
    "fencingToken": 41,
    "startTime": 1795372832575,
    "lastActivity": 1795372833097,
    "expiresAt": 1795372863097,
    "duration": 522,
    "offered": False,
    "yours": False,
    "person": None,
}
TICKET: dict[str, Any] = {
    "id": 7,
    "service": "lightweight-llm",
    "position": 1,
    "enqueuedAt": 1795372832901,
    "expiresAt": 1795372862901,
    "yours": True,
    "person": "ann",
}
HOLD: dict[str, Any] = {
    "id": 40,
    "service": "lightweight-llm",
    "sessionId": SESSION,
    "fencingToken": 40,
    "enqueuedAt": 1795372810000,
    "startTime": 1795372816219,
    "lastActivity": 1795372818011,
    "endedAt": 1795372818020,
    "outcome": "released",
    "yours": True,
    "person": "ann",
    "endedBy": "",
    "reason": "",
}

list_services = extend_schema(
    operation_id="list_services",
    tags=["services"],
    summary="All services",
    description="Every service with its health and its queue. Public.",
    auth=[],
    responses={200: answer(ServiceList, "The services.", one={"success": True, "services": [CHAT]})},
)
get_service = extend_schema(
    operation_id="get_service",
    tags=["services"],
    summary="One service",
    description="A service with its health and its queue. Public.",
    auth=[],
    parameters=[SERVICE_ID],
    responses={200: answer(OneService, "The service.", free={"success": True, **CHAT}), 404: NO_SERVICE},
)
list_leases = extend_schema(
    operation_id="list_leases",
    tags=["leases"],
    summary="The sessions that run now",
    description="That a service is held is public; by whom, only operators and the holder see.",
    responses={
        200: answer(
            LeaseList,
            "The sessions.",
            somebody={"success": True, "leases": [LEASE]},
            nobody={"success": True, "leases": []},
        )
    },
)
get_lease = extend_schema(
    operation_id="get_lease",
    tags=["leases"],
    summary="Who holds a service",
    description="The session that holds the service now, null if nobody does.",
    parameters=[SERVICE_ID],
    responses={
        200: answer(
            OneLease,
            "The session.",
            held={"success": True, "service": "lightweight-llm", "lease": LEASE},
            free={"success": True, "service": "lightweight-llm", "lease": None},
        ),
        404: NO_SERVICE,
    },
)
list_tickets = extend_schema(
    operation_id="list_tickets",
    tags=["leases"],
    summary="Places in the queues",
    description="The caller's own, by their numbers; everybody's for operators who may see tickets.",
    parameters=[shapes.Page],
    responses={
        200: answer(TicketList, "The places.", one={"success": True, "tickets": [TICKET], "nextCursor": None})
    },
)
list_holds = extend_schema(
    operation_id="list_holds",
    tags=["leases"],
    summary="The history of sessions",
    description="The caller's own ended sessions, the newest first; everybody's for operators who may see "
    "the history.",
    parameters=[shapes.HoldPage],
    responses={
        200: answer(HoldList, "The sessions.", one={"success": True, "holds": [HOLD], "nextCursor": None})
    },
)


def _deed(
    name: str, summary: str, description: str, request: Any, *, done: str, missed: str, **more: Any
) -> Any:
    """The description of a deed's POST."""
    return extend_schema_view(
        post=extend_schema(
            operation_id=name,
            tags=["operators"],
            summary=summary,
            description=f"{description} For operators with the permission; recorded with name and reason.",
            request=request,
            responses={
                200: answer(Done, "It is done.", done={"success": True, "message": done}),
                403: FORBIDDEN,
                409: refused("There was nothing left to do.", missed, Error),
                **({} if "ticket" in name else {404: NO_SERVICE}),
            },
            **more,
        )
    )


force_release = _deed(
    "force_release",
    "End a session by force",
    "The named session ends at once, its holder reads that an administrator ended it, and the next in the "
    "queue begins. Another session is never touched.",
    asked(shapes.ForcedEnd, stuck={"sessionId": SESSION, "reason": "Left running over the weekend"}),
    done="The session is ended. Its holder reads that an administrator ended it.",
    missed="That session has ended already, and nobody else was touched.",
    parameters=[SERVICE_ID],
)
remove_ticket = _deed(
    "remove_ticket",
    "Take somebody out of the queue",
    "Whoever waits there reads that an operator took them out. They may queue again, at the end.",
    asked(shapes.Reason, asked_for={"reason": "Asked for it by mail"}),
    done="Removed from the queue. Whoever waited there reads that an operator took them out.",
    missed="Nobody waits there any more.",
    parameters=[TICKET_ID],
)
disable_service = _deed(
    "disable_service",
    "Switch a service off",
    "Callers and those who wait read the note; whoever holds the service may finish.",
    asked(shapes.Note, update={"note": "The model is being updated. Please come back at noon."}),
    done="The service is switched off. Callers read your note; whoever holds the service may finish.",
    missed="The service was switched off already.",
    parameters=[SERVICE_ID],
)
enable_service = _deed(
    "enable_service",
    "Switch a service on",
    "The service takes callers again.",
    asked(shapes.Reason, updated={"reason": "The update is done"}),
    done="The service is switched on.",
    missed="The service was switched on already.",
    parameters=[SERVICE_ID],
)

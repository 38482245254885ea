"""How the sessions of programs are described."""

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers

from leases import serializers as shapes
from leases.models import Outcome
from leases.resource_schema import NO_SERVICE, SERVICE_ID, SESSION
from leases.schema import (
    BUSY,
    EVENTS,
    EXPIRED,
    GUARDED,
    JSON,
    Error,
    Events,
    Queued,
    StreamError,
    Success,
    Unavailable,
    answer,
    asked,
    not_found,
    refused,
    stream_of,
)

SECRET = "7d1f0c2a9e8b4d6f8a3c5e7f90b1d2c3"  # noqa: S105 - an example
PROOF = {"secret": SECRET, "fencingToken": 41}
NO_SESSION = not_found("You have no such session of this service.")


class Expiry(Success):
    """How long a session lasts unless it is renewed."""

    expiresIn = serializers.FloatField(help_text="Seconds that are left.")  # noqa: N815
    expiresAt = serializers.IntegerField(  # noqa: N815
        help_text="The same by the database's clock, in milliseconds since 1970."
    )


class Grant(Expiry):
    """A session that a program has acquired."""

    service = serializers.CharField(help_text="The service that is the caller's now.")
    sessionId = serializers.CharField(help_text="The session's public name.")  # noqa: N815
    secret = serializers.CharField(
        help_text="For the caller alone: whoever has it and the caller's token may renew and release."
    )
    fencingToken = serializers.IntegerField(  # noqa: N815
        min_value=1,
        help_text="Rises by one with every grant: whatever guards a resource can refuse an older one.",
    )
    ttl = serializers.FloatField(help_text="Seconds that the session outlives its last renewal.")
    idleTimeout = serializers.FloatField(  # noqa: N815
        help_text="Seconds without a renewal after which it ends in any case."
    )
    renewEvery = serializers.FloatField(  # noqa: N815
        help_text="Seconds between renewals that leave room for a lost one."
    )


class Released(Success):
    """Whether there was anything to give back."""

    released = serializers.BooleanField(help_text="False if the session had ended already.")
    ended = serializers.ChoiceField(
        Outcome.values, required=False, help_text="How it had ended, if it was not given back just now."
    )


class Ended(Error):  # noqa: N818
    """The session is over."""

    ended = serializers.ChoiceField(
        Outcome.values, help_text="How it ended: given back, no renewal in time, or by an operator."
    )


class AcquisitionEvents(Events):
    """A wait for a service, step by step."""

    kinds = {"queued": Queued, "done": Grant, "error": StreamError}


GRANT = {
    "success": True,
    "service": "lightweight-llm",
    "sessionId": SESSION,
    "secret": SECRET,
    "fencingToken": 41,
    "ttl": 30.0,
    "idleTimeout": 300.0,
    "expiresIn": 30.0,
    "expiresAt": 1795372863097,
    "renewEvery": 10.0,
}
BUSY_CHAT = BUSY | {"error": str(BUSY["error"]).format("chat"), "service": "lightweight-llm"}

acquire = extend_schema(
    operation_id="acquire_lease",
    tags=["leases"],
    summary="Acquire a service for a program",
    description="The service is the caller's until the session is released or expires: renew it within its "
    "`ttl`. The queue is the same as that of the people on the site.",
    parameters=[SERVICE_ID, *GUARDED],
    request=None,
    responses={
        (201, JSON): answer(Grant, "The service is the caller's.", granted=GRANT),
        (200, EVENTS): OpenApiResponse(
            AcquisitionEvents,
            "The wait, and the grant at its end.",
            examples=[
                OpenApiExample(
                    "stream",
                    value=stream_of(
                        ("queued", {"position": 1, "estimatedWaitSeconds": 4, "yours": False}),
                        ("done", GRANT),
                    ),
                    media_type=EVENTS,
                )
            ],
        ),
        404: NO_SERVICE,
        503: answer(
            Unavailable,
            "The service is not free (`reason`).",
            busy=BUSY_CHAT,
            ended=EXPIRED | {"service": "lightweight-llm"},
        ),
    },
)
renew = extend_schema(
    operation_id="renew_lease",
    tags=["leases"],
    summary="Renew a session",
    description="Keeps the session for another `ttl` and says that its work goes on.",
    parameters=[SERVICE_ID],
    request=asked(shapes.SessionProof, proof=PROOF),
    responses={
        200: answer(
            Expiry, "It goes on.", renewed={"success": True, "expiresIn": 30.0, "expiresAt": 1795372893097}
        ),
        404: NO_SESSION,
        409: refused(
            "The session has ended: stop the work.",
            "Your session was ended by an administrator. Please try again later.",
            Ended,
            ended="forced",
        ),
    },
)
release = extend_schema(
    operation_id="release_lease",
    tags=["leases"],
    summary="Give a session back",
    description="The next in the queue begins. Harmless if the session has ended already.",
    parameters=[SERVICE_ID],
    request=asked(shapes.SessionProof, proof=PROOF),
    responses={
        200: answer(
            Released,
            "It is over.",
            released={"success": True, "released": True},
            had_ended={"success": True, "released": False, "ended": "lost"},
        ),
        404: NO_SESSION,
    },
)

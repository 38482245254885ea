"""How this app's routes are described, and what the descriptions of all guarded routes have in common."""

import json
from collections.abc import Mapping
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import (
    Direction,
    OpenApiExample,
    OpenApiParameter,
    OpenApiRequest,
    OpenApiResponse,
    extend_schema,
)
from rest_framework import serializers

JSON = "application/json"
EVENTS = "text/event-stream"
SERVICES = ["lightweight-llm", "vector-convert"]
BUSY = {
    "success": False,
    "error": "Someone else is using the {} service right now. Please try again in a minute or two.",
    "serviceUnavailable": True,
    "reason": "busy",
    "service": "",
    "retryAfter": 3,
    "queueLength": 0,
}
EXPIRED = {
    "success": False,
    "error": "Your session expired because nothing happened for too long. Please try again.",
    "serviceUnavailable": True,
    "ended": "expired",
    "service": "",
    "retryAfter": 1,
    "queueLength": 0,
}


class Shape(serializers.Serializer[Any]):
    """A body as it is described. Nothing is made or read with it."""


class Success(Shape):
    success = serializers.BooleanField(help_text="Always true in an answer that is no error.")


class Error(Shape):
    """What went wrong, in words for a person."""

    success = serializers.BooleanField(help_text="Always false in an error.")
    error = serializers.CharField(help_text="A sentence that says what is wrong and what to do next.")


class EngineError(Error):
    """The engine behind a service failed."""

    details = serializers.CharField(
        allow_blank=True, help_text="What the engine said, for whoever operates it; may be empty."
    )


class Unavailable(Error):  # noqa: N818
    """A service that cannot be had now (`reason`), or a session that ended before its work (`ended`)."""

    serviceUnavailable = serializers.BooleanField(  # noqa: N815 - the contract's name
        help_text="Always true here: the request was good, only the service was not free."
    )
    reason = serializers.ChoiceField(
        ["busy", "queue_full", "wait_timeout", "disabled"],
        required=False,
        help_text="Why the service could not be had: somebody has it, too many wait for it, the wait that "
        "`Prefer` allowed is over, or an operator has switched it off.",
    )
    ended = serializers.ChoiceField(
        ["expired", "lost", "forced", "released"],
        required=False,
        help_text="Instead of `reason`, how a session ended in the middle of its work: without activity, "
        "without a heartbeat, by an operator, or given back by another hand of its owner.",
    )
    service = serializers.CharField(help_text="The service's id, such as `lightweight-llm`.")
    retryAfter = serializers.IntegerField(  # noqa: N815 - the contract's name
        min_value=0,
        help_text="Seconds after which another try makes sense; the header `Retry-After` says the same.",
    )
    queueLength = serializers.IntegerField(  # noqa: N815 - the contract's name
        min_value=0, help_text="How many callers wait for the service."
    )


class Queued(Shape):
    """The event `queued`: at once when the caller has to wait, and at each change of the place."""

    position = serializers.IntegerField(min_value=1, help_text="The place in the queue; 1 is next.")
    estimatedWaitSeconds = serializers.IntegerField(  # noqa: N815 - the contract's name
        allow_null=True,
        min_value=0,
        help_text="Seconds until the turn comes, as recent sessions suggest; null while there are none.",
    )
    yours = serializers.BooleanField(
        help_text="Whether it is the caller's own other session that uses the service now."
    )


class Started(Shape):
    """The event `started`: the service is the caller's."""

    sessionId = serializers.CharField(  # noqa: N815 - the contract's name
        help_text="The session's name as `/api/services/status` lists it."
    )
    queuedMs = serializers.IntegerField(min_value=0, help_text="Milliseconds of waiting.")  # noqa: N815
    conversationId = serializers.UUIDField(  # noqa: N815 - the contract's name
        required=False, help_text="The conversation in which the exchange is saved, if it is."
    )


class Progress(Shape):
    """The event `progress`: how far the work has come."""

    done = serializers.IntegerField(min_value=0, help_text="Chunks that have their vectors.")
    total = serializers.IntegerField(min_value=0, help_text="Chunks of the document.")


class Token(Shape):
    """The event `token`: the next piece of the answer."""

    text = serializers.CharField(
        trim_whitespace=False, help_text="What the model said next; all of them joined are the answer."
    )


class StreamError(Error):
    """The event `error`: what the route without a stream would have answered, and its status."""

    status = serializers.IntegerField(help_text="The HTTP status that the answer would have had.")
    details = serializers.CharField(
        required=False, allow_blank=True, help_text="With 502 and 504: what the engine said."
    )
    serviceUnavailable = serializers.BooleanField(  # noqa: N815 - the contract's name
        required=False, help_text="True with 503: the service was not free, or the session ended."
    )
    reason = serializers.CharField(
        required=False, help_text="With 503: why the service could not be had, as in `Unavailable`."
    )
    ended = serializers.CharField(
        required=False, help_text="With 503: how the session ended, as in `Unavailable`."
    )
    service = serializers.CharField(required=False, help_text="With 503: the service's id.")
    retryAfter = serializers.IntegerField(  # noqa: N815 - the contract's name
        required=False, help_text="With 503: seconds after which another try makes sense."
    )
    queueLength = serializers.IntegerField(  # noqa: N815 - the contract's name
        required=False, help_text="With 503: how many callers wait for the service."
    )


class Events(Shape):
    """A stream of server-sent events. `kinds` are the shapes of their data by the events' names."""

    kinds: Mapping[str, type[Shape]] = {}


class DescribedEvents(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """The schema of a stream describes each of its events, as is the custom before OpenAPI 3.2."""

    target_class = Events
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        about = (type(self.target).__doc__ or "").strip()
        return {
            "description": f"{about} Each event is a line `event: NAME`, a line `data: JSON` and an "
            "empty line; a "
            "line that begins with a colon keeps an idle stream alive. One of these:",
            "oneOf": [
                _event(name, shape, auto_schema.resolve_serializer(shape, direction).ref)
                for name, shape in self.target.kinds.items()
            ],
        }


def _event(name: str, shape: type[Shape], data: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": (shape.__doc__ or "").strip(),
        "properties": {
            "event": {"type": "string", "const": name, "description": "The event's name."},
            "data": {
                "type": "string",
                "contentMediaType": JSON,
                "contentSchema": data,
                "description": "What it says, as JSON.",
            },
        },
        "required": ["event", "data"],
    }


def answer(shape: type[Shape], description: str, **examples: Any) -> OpenApiResponse:
    """A body with its examples by name, in which `_` stands for a space."""
    return OpenApiResponse(shape, description, examples=_by_name(examples))


def asked(shape: type[serializers.Serializer[Any]], **examples: Any) -> OpenApiRequest:
    """A request's body with its examples by name, likewise."""
    return OpenApiRequest(shape, examples=_by_name(examples))


def _by_name(examples: dict[str, Any]) -> list[OpenApiExample]:
    return [OpenApiExample(name.replace("_", " "), value=value) for name, value in examples.items()]


def refused(description: str, sentence: str, shape: type[Error] = Error, **more: Any) -> OpenApiResponse:
    """An error with an example of its body."""
    return answer(shape, description, example={"success": False, "error": sentence, **more})


def not_found(sentence: str) -> OpenApiResponse:
    return refused("It does not exist, or it is somebody else's.", sentence)


def stream_of(*events: tuple[str, dict[str, Any]]) -> str:
    """The text of a stream, as an example."""
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)


PREFER = OpenApiParameter(
    "Prefer",
    str,
    OpenApiParameter.HEADER,
    description="`wait=SECONDS` (RFC 7240): join the fair queue of a busy service for at most that long. "
    "Without it a busy service answers 503 at once.",
    examples=[OpenApiExample("wait ten minutes", value="wait=600")],
)
PREFERENCE_APPLIED = OpenApiParameter(
    "Preference-Applied",
    str,
    OpenApiParameter.HEADER,
    response=True,
    description="The wait that was granted, if one was asked for: `wait=600`.",
)
RETRY_AFTER = OpenApiParameter(
    "Retry-After",
    int,
    OpenApiParameter.HEADER,
    response=[503],
    required=True,
    description="Seconds after which another try makes sense.",
)
GUARDED = [PREFER, PREFERENCE_APPLIED, RETRY_AFTER]


def guarded(
    done: OpenApiResponse, events: type[Events], stream: str, *, service: str, called: str
) -> dict[Any, OpenApiResponse]:
    """The answers of a route that works under the lease of a service, whose sentences say `called`."""
    busy = BUSY | {"error": str(BUSY["error"]).format(called), "service": service}
    return {
        (200, JSON): done,
        (200, EVENTS): OpenApiResponse(
            events, done.description, examples=[OpenApiExample("stream", value=stream, media_type=EVENTS)]
        ),
        502: refused(
            "The engine failed.",
            "The model cannot be reached. Please try again in a moment.",
            EngineError,
            details="connection refused",
        ),
        503: answer(
            Unavailable,
            "The service is not free (`reason`), or the session ended before the work did (`ended`).",
            busy=busy,
            session_ended=EXPIRED | {"service": service},
        ),
        504: refused(
            "The engine answered too late.",
            "The model took too long to answer. Please try again.",
            EngineError,
            details="no token within 60 s",
        ),
    }


class Health(Shape):
    """How the engine behind a service is."""

    ready = serializers.BooleanField(help_text="Whether the engine can answer.")
    model = serializers.CharField(allow_null=True, help_text="The model's name, null while it is not known.")
    error = serializers.CharField(
        allow_null=True, help_text="Why the engine cannot answer, null if nothing is wrong."
    )


class Queue(Shape):
    """How many wait for a service."""

    length = serializers.IntegerField(min_value=0, help_text="Callers in the queue.")
    estimatedWaitSeconds = serializers.IntegerField(  # noqa: N815 - the contract's name
        allow_null=True,
        min_value=0,
        help_text="Seconds that a newcomer would wait, as recent sessions suggest; null while there are "
        "none.",
    )


class ServiceStatus(Shape):
    """One service, and whether it is free."""

    id = serializers.CharField(help_text="The service's id, such as `lightweight-llm`.")
    name = serializers.CharField(help_text="The service's name, for people.")
    available = serializers.BooleanField(help_text="False exactly while a live session holds the service.")
    message = serializers.CharField(
        allow_null=True, help_text="What people read while the service cannot be had, else null."
    )
    enabled = serializers.BooleanField(help_text="False while an operator has switched the service off.")
    health = Health(help_text="How the engine behind the service is.")
    queue = Queue(help_text="How many wait for the service.")


class ActiveSession(Shape):
    """A session that holds a service now. It names no person and is of no use for ending the session."""

    serviceId = serializers.CharField(help_text="The service that the session holds.")  # noqa: N815
    sessionId = serializers.CharField(help_text="The session's public name.")  # noqa: N815
    startTime = serializers.IntegerField(help_text="When it began, in milliseconds since 1970.")  # noqa: N815
    lastActivity = serializers.IntegerField(  # noqa: N815 - the contract's name
        help_text="When its work last went on, in milliseconds since 1970."
    )
    duration = serializers.IntegerField(min_value=0, help_text="Milliseconds since it began.")


class Services(Shape):
    """The services by the names that the original clients know."""

    chat = ServiceStatus(help_text="The chat model, `lightweight-llm`.")
    vectorConvert = ServiceStatus(  # noqa: N815 - the contract's name
        help_text="The document converter, `vector-convert`."
    )


class Status(Shape):
    """All services at one moment."""

    services = Services(help_text="Every service by its name.")
    activeSessions = ActiveSession(  # noqa: N815 - the contract's name
        many=True, help_text="The sessions that hold a service now; an expired one is never listed."
    )
    timestamp = serializers.IntegerField(
        allow_null=True, help_text="The moment of this answer, in milliseconds since 1970."
    )


def _service(id: str, name: str, model: str, **more: Any) -> dict[str, Any]:  # noqa: A002
    free = {"id": id, "name": name, "available": True, "message": None, "enabled": True}
    return {
        **free,
        "health": {"ready": True, "model": model, "error": None},
        "queue": {"length": 0, "estimatedWaitSeconds": None},
        **more,
    }


_CHAT = ("lightweight-llm", "Chat Service", "SmolLM2-135M-Instruct.Q4_1")
_VECTORS = ("vector-convert", "Document Conversion Service", "all-MiniLM-L6-v2-f32")

status = extend_schema(
    operation_id="services_status",
    tags=["services"],
    summary="Which service is free",
    description="Every service with its health and its queue, and the sessions that hold one now. "
    "Public. It is "
    "right at the moment it is given; only the answer to the request itself decides who has the service.",
    auth=[],
    responses={
        200: answer(
            Status,
            "All services at one moment.",
            all_free={
                "services": {"chat": _service(*_CHAT), "vectorConvert": _service(*_VECTORS)},
                "activeSessions": [],
                "timestamp": 1795372765598,
            },
            one_busy={
                "services": {
                    "chat": _service(
                        *_CHAT,
                        available=False,
                        message="Someone else is using the chat service right now. "
                        "Please try again in a minute or two.",
                        queue={"length": 1, "estimatedWaitSeconds": 4},
                    ),
                    "vectorConvert": _service(*_VECTORS),
                },
                "activeSessions": [
                    {
                        "serviceId": "lightweight-llm",
                        "sessionId": "0e7e5fbf3e8e5206eff8d752c19b2d15",
                        "startTime": 1795372832575,
                        "lastActivity": 1795372832999,
                        "duration": 522,
                    }
                ],
                "timestamp": 1795372833097,
            },
        )
    },
)

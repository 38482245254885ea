"""What anybody may know about the services: who is free, who is busy, since when, and how long the
queue is. No secrets."""

import hashlib
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

from django.conf import settings
from django.db import connection
from django.utils.module_loading import import_string

from leases.exceptions import UnknownService
from leases.statements import STATEMENTS


class Health(Protocol):
    """How an engine is, known at once."""

    @property
    def ready(self) -> bool: ...
    @property
    def model(self) -> str | None: ...
    @property
    def error(self) -> str | None: ...


@dataclass(frozen=True)
class State:
    """One service at one moment of the database's clock; times in milliseconds since the epoch.

    The session's fields, and `expires_in` (seconds), are None while nobody holds the service.
    `median_hold` (seconds) is the median of recent sessions, None if there were none.
    """

    id: str
    status_key: str
    name: str
    enabled: bool
    busy_message: str
    own_busy_message: str
    disabled_message: str
    session_id: str | None
    owner: str | None
    started_at: int | None
    last_activity_at: int | None
    expires_in: float | None
    now: int
    queue_length: int
    median_hold: float | None

    @property
    def free(self) -> bool:
        """Whether a newcomer would get the service: nobody holds it, and nobody waits for it."""
        return self.enabled and self.session_id is None and self.queue_length == 0

    @property
    def message(self) -> str | None:
        """What people read while the service cannot be had."""
        if not self.enabled:
            return self.disabled_message
        return self.busy_message if self.session_id else None

    def estimated_wait(self, place: int) -> int | None:
        """Whole seconds until it is the turn of this place in the queue, None without any history.

        The recent median hold for each one ahead, and what the present holder is likely to have left.
        """
        if self.median_hold is None:
            return None
        left = 0.0
        if self.started_at is not None:
            left = max(self.median_hold - (self.now - self.started_at) / 1000, 0.0)
        return ceil(left + self.median_hold * (place - 1))


def states() -> list[State]:
    """The state of every service, in one query. An expired session is not there, swept or not."""
    with connection.cursor() as cursor:
        cursor.execute(STATEMENTS[connection.vendor].states, {})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return [State(*row) for row in rows]


def state_of(service_id: str) -> State:
    """The state of one service. Raises UnknownService."""
    for state in states():
        if state.id == service_id:
            return state
    raise UnknownService(service_id)


def public_status() -> dict[str, Any]:
    """The body of GET /api/services/status."""
    services = states()
    return {
        "services": {service.status_key: public_service(service) for service in services},
        "activeSessions": [_public_session(service) for service in services if service.session_id],
        "timestamp": services[0].now if services else None,
    }


def health(service_id: str) -> dict[str, Any]:
    """The health of the engine behind a service, as this process knows it."""
    path = settings.LEASE_ENGINES.get(service_id)
    if path is None:
        return {"ready": True, "model": None, "error": None}
    known: Health = import_string(path)().health()
    return {"ready": known.ready, "model": known.model, "error": known.error}


def public_service(service: State) -> dict[str, Any]:
    """What anybody may know about one service."""
    return {
        "id": service.id,
        "name": service.name,
        "available": service.session_id is None,
        "message": service.message,
        "enabled": bool(service.enabled),
        "health": health(service.id),
        "queue": {
            "length": service.queue_length,
            "estimatedWaitSeconds": service.estimated_wait(service.queue_length + 1),
        },
    }


def _public_session(service: State) -> dict[str, Any]:
    assert service.session_id is not None and service.started_at is not None  # noqa: S101, PT018
    return {
        "serviceId": service.id,
        "sessionId": public_id(service.session_id),
        "startTime": service.started_at,
        "lastActivity": service.last_activity_at,
        "duration": service.now - service.started_at,
    }


def public_id(session_id: str) -> str:
    """A name for a session that tells it apart and is of no use for renewing or ending it."""
    return hashlib.sha256(session_id.encode()).hexdigest()[:32]

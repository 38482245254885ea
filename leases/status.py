"""What anybody may know about the services: who is free, who is busy and since when. No secrets."""

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from django.conf import settings
from django.db import connection
from django.utils.module_loading import import_string


class Health(Protocol):
    """How an engine is, known at once."""

    @property
    def ready(self) -> bool: ...
    @property
    def model(self) -> str | None: ...
    @property
    def error(self) -> str | None: ...


NOW = {"sqlite": "julianday('now')", "postgresql": "statement_timestamp()"}
MILLISECONDS = {
    "sqlite": "CAST(round((julianday({time}) - 2440587.5) * 86400000.0) AS integer)",
    "postgresql": "CAST(round(EXTRACT(EPOCH FROM {time}) * 1000) AS bigint)",
}
LIVE = {
    "sqlite": "lease.expires_at > strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "postgresql": "lease.expires_at > statement_timestamp()",
}


@dataclass(frozen=True)
class ServiceState:
    """One service at one moment of the database's clock; times in milliseconds since the epoch.

    The session's fields are None while nobody holds the service.
    """

    id: str
    status_key: str
    name: str
    enabled: bool
    message: str | None
    session_id: str | None
    started_at: int | None
    last_activity_at: int | None
    now: int


@cache
def _query(vendor: str) -> str:
    time = MILLISECONDS[vendor].format
    return f"""
        SELECT service.id, service.status_key, service.name, service.enabled,
            CASE WHEN NOT service.enabled THEN service.disabled_message
                WHEN lease.service_id IS NOT NULL THEN service.busy_message END,
            lease.session_id, {time(time="lease.started_at")}, {time(time="lease.last_activity_at")},
            {time(time=NOW[vendor])}
        FROM leases_service AS service
        LEFT JOIN leases_lease AS lease
            ON lease.service_id = service.id AND lease.session_id IS NOT NULL AND {LIVE[vendor]}
        ORDER BY service.id"""


def states() -> list[ServiceState]:
    """The state of every service, in one query. An expired session is not there, swept or not."""
    with connection.cursor() as cursor:
        cursor.execute(_query(connection.vendor))
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return [ServiceState(*row) for row in rows]


def public_status() -> dict[str, Any]:
    """The body of GET /api/services/status."""
    services = states()
    return {
        "services": {service.status_key: _public_service(service) for service in services},
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


def _public_service(service: ServiceState) -> dict[str, Any]:
    return {
        "id": service.id,
        "name": service.name,
        "available": service.session_id is None,
        "message": service.message,
        "enabled": bool(service.enabled),
        "health": health(service.id),
        "queue": {"length": 0, "estimatedWaitSeconds": None},
    }


def _public_session(service: ServiceState) -> dict[str, Any]:
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

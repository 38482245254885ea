"""Wrong settings, said before they do harm."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 - Django's own name


@register("leases")
def check_times(**kwargs: Any) -> list[CheckMessage]:
    """LEASE_TTL, LEASE_HEARTBEAT and LEASE_IDLE_TIMEOUT must be positive and leave room for a lost beat."""
    found: list[CheckMessage] = [
        Error(
            f"{name} is {getattr(settings, name)}, which is no length of time.",
            hint=f"Set {name} to a positive number of seconds.",
            id="leases.E001",
        )
        for name in ("LEASE_TTL", "LEASE_HEARTBEAT", "LEASE_IDLE_TIMEOUT")
        if not 0 < getattr(settings, name) < 1e9
    ]
    if not found and settings.LEASE_HEARTBEAT > settings.LEASE_TTL / 2:
        found.append(
            Error(
                "LEASE_HEARTBEAT is more than half of LEASE_TTL: one late heartbeat would lose the lease.",
                hint="Set LEASE_HEARTBEAT to a third of LEASE_TTL, or leave it out.",
                id="leases.E002",
            )
        )
    return found


@register("leases")
def check_database(**kwargs: Any) -> list[CheckMessage]:
    """SQLite must take its write lock at the start of a transaction, and views must not be wrapped in one."""
    found: list[CheckMessage] = []
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3") and database["OPTIONS"].get("transaction_mode") != "IMMEDIATE":
        found.append(
            Warning(
                "SQLite transactions are deferred: two of them fail with “database is locked” at once.",
                hint="Set OPTIONS['transaction_mode'] to 'IMMEDIATE'.",
                id="leases.W003",
            )
        )
    if database.get("ATOMIC_REQUESTS"):
        found.append(
            Error(
                "ATOMIC_REQUESTS wraps views in transactions, inside which no lease can be taken.",
                hint="Remove ATOMIC_REQUESTS, and use transaction.atomic() where a view needs it.",
                id="leases.E004",
            )
        )
    return found

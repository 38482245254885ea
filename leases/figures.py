"""How much the services were used today."""

from dataclasses import dataclass
from typing import Any

from django.db import connection

from leases.statements import STATEMENTS


@dataclass(frozen=True)
class Figures:
    """The sessions of one service that ended since midnight (UTC); times in seconds, None without any."""

    holds: int = 0
    median_hold: float | None = None
    longest_hold: float | None = None
    median_wait: float | None = None
    longest_wait: float | None = None


def today() -> dict[str, Figures]:
    """The figures of each service that was used today, in one query."""
    with connection.cursor() as cursor:
        cursor.execute(STATEMENTS[connection.vendor].today, {})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return {service_id: Figures(*figures) for service_id, *figures in rows}

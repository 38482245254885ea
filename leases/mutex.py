"""The mutex: the only code that writes leases.

Each verb is one conditional statement. Its WHERE clause is the rule, the row that it returns is the
verdict, and the database's clock is the only clock. The statements are the same text on SQLite and
PostgreSQL but for the few expressions in `Dialect`, where the two spell time differently.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import connection
from django.db.models import F

from leases.exceptions import LeaseInTransaction, ServiceBusy, UnknownService
from leases.models import Hold, Lease, Outcome, Service


@dataclass(frozen=True)
class Grant:
    """The right to use a service until it is given back or expires; `ttl` and `idle_timeout` in seconds.

    `session_id` is the holder's secret: whoever knows it can renew and release.
    """

    service_id: str
    session_id: str
    owner: str
    fencing_token: int
    ttl: float
    idle_timeout: float


@dataclass(frozen=True)
class Dialect:
    """How one database spells the moment of the statement and arithmetic with seconds."""

    now: str
    shifted: str  # {time} moved by {seconds}
    until: str  # seconds from now to {time}
    least: str
    greatest: str
    locked: str
    skip_locked: str

    def shift(self, time: str, seconds: str) -> str:
        return self.shifted.format(time=time, seconds=seconds)


SQLITE = Dialect(
    now="strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')",
    shifted="strftime('%%Y-%%m-%%d %%H:%%M:%%f', {time}, printf('%%+.3f seconds', {seconds}))",
    until="(julianday({time}) - julianday('now')) * 86400.0",
    least="min",
    greatest="max",
    locked="",  # a transaction here is IMMEDIATE: nobody else writes until it ends
    skip_locked="",
)
POSTGRESQL = Dialect(
    now="statement_timestamp()",
    shifted="({time} + make_interval(secs => {seconds}))",
    until="CAST(EXTRACT(EPOCH FROM {time} - statement_timestamp()) AS double precision)",
    least="least",
    greatest="greatest",
    locked="FOR NO KEY UPDATE",
    skip_locked="FOR UPDATE SKIP LOCKED",
)


class Statements:
    """The SQL of every verb in one dialect."""

    # Only the holder of exactly this grant: the session, whose it is, and the token it was given.
    HOLDER = """service_id = %(service_id)s AND session_id = %(session_id)s
        AND owner = %(owner)s AND fencing_token = %(fencing_token)s"""

    def __init__(self, dialect: Dialect) -> None:
        now, shift = dialect.now, dialect.shift
        # A session that nobody ended: by which of its two deadlines did it go?
        lapsed = f"""CASE WHEN {shift("lease.last_activity_at", "lease.idle_timeout")} <= lease.expires_at
            THEN '{Outcome.EXPIRED}' ELSE '{Outcome.LOST}' END"""
        activity = f"{dialect.greatest}(last_activity_at, {shift(now, '-%(idle_for)s')})"

        self.sweep = f"""
            UPDATE leases_lease AS lease
            SET session_id = NULL, ended_as = {lapsed}, ended_by = '', ended_reason = ''
            WHERE service_id IN (
                SELECT service_id FROM leases_lease
                WHERE session_id IS NOT NULL AND expires_at <= {now} AND service_id <> %(service_id)s
                {dialect.skip_locked}
            )"""
        self.acquire = f"""
            UPDATE leases_lease AS lease SET
                session_id = %(session_id)s, owner = %(owner)s, fencing_token = lease.fencing_token + 1,
                ttl = its_ttl, idle_timeout = its_idle_timeout, started_at = {now}, last_activity_at = {now},
                expires_at = {shift(now, f"{dialect.least}(its_ttl, its_idle_timeout)")},
                ended_as = {lapsed}, ended_by = '', ended_reason = ''
            FROM (
                SELECT id, coalesce(ttl, %(ttl)s) AS its_ttl,
                    coalesce(idle_timeout, %(idle_timeout)s) AS its_idle_timeout
                FROM leases_service WHERE enabled
            ) AS service
            WHERE lease.service_id = %(service_id)s AND service.id = lease.service_id
                AND (lease.session_id IS NULL OR lease.expires_at <= {now})
            RETURNING fencing_token, ttl, idle_timeout"""
        # A heartbeat that waited for its row must not take back what was granted meanwhile: hence greatest.
        renewed = f"{dialect.least}({shift(now, 'ttl')}, {shift(activity, 'idle_timeout')})"
        self.renew = f"""
            UPDATE leases_lease SET
                last_activity_at = {activity}, expires_at = {dialect.greatest}(expires_at, {renewed})
            WHERE {self.HOLDER} AND expires_at > {now}
            RETURNING {dialect.until.format(time="expires_at")}"""
        # Only in the transaction that has confirmed the lease and still has its row locked.
        self.prolong = f"""
            UPDATE leases_lease SET
                last_activity_at = {now}, expires_at = {shift(now, f"{dialect.least}(ttl, idle_timeout)")}
            WHERE {self.HOLDER}"""
        self.release = f"""
            UPDATE leases_lease AS lease SET session_id = NULL, ended_by = '', ended_reason = '',
                ended_as = CASE WHEN lease.expires_at > {now} THEN %(ended_as)s ELSE {lapsed} END
            WHERE {self.HOLDER}
            RETURNING ended_as"""
        self.force_release = f"""
            UPDATE leases_lease SET session_id = NULL,
                ended_as = '{Outcome.FORCED}', ended_by = %(ended_by)s, ended_reason = %(reason)s
            WHERE service_id = %(service_id)s AND session_id = %(session_id)s AND expires_at > {now}
            RETURNING service_id"""
        self.confirm = f"""
            SELECT expires_at FROM leases_lease
            WHERE {self.HOLDER} AND expires_at > {now} {dialect.locked}"""
        self.fate = f"""
            SELECT outcome FROM leases_hold WHERE session_id = %(session_id)s
            UNION ALL
            SELECT {lapsed} FROM leases_lease AS lease
            WHERE session_id = %(session_id)s AND expires_at <= {now}"""


STATEMENTS = {"sqlite": Statements(SQLITE), "postgresql": Statements(POSTGRESQL)}


def try_acquire(service_id: str, owner: str) -> Grant | None:
    """Take the lease if nobody holds it; None if somebody does or the service is disabled or unknown.

    Sessions that lapsed, of this service and of all others, are ended and written to the history on
    the way. One statement on PostgreSQL, two on SQLite. Raises LeaseInTransaction.
    """
    values = {
        "service_id": service_id,
        "session_id": uuid4().hex,
        "owner": owner,
        "ttl": settings.LEASE_TTL,
        "idle_timeout": settings.LEASE_IDLE_TIMEOUT,
    }
    statements = STATEMENTS[connection.vendor]
    if connection.vendor == "postgresql":
        row = _verdict(f"WITH swept AS ({statements.sweep}) {statements.acquire}", values)
    else:
        _verdict(statements.sweep, {"service_id": service_id})
        row = _verdict(statements.acquire, values)
    if row is None:
        return None
    fencing_token, ttl, idle_timeout = row
    return Grant(service_id, values["session_id"], owner, fencing_token, ttl, idle_timeout)


def acquire(service_id: str, owner: str) -> Grant:
    """Take the lease, or raise ServiceBusy with the reason, UnknownService or LeaseInTransaction."""
    grant = try_acquire(service_id, owner)
    if grant is None:
        raise refusal(service_id, owner)
    return grant


def refusal(service_id: str, owner: str) -> ServiceBusy:
    """Why this caller cannot have the service now, in the service's own words. Raises UnknownService."""
    service = Service.objects.filter(pk=service_id).first()
    if service is None:
        raise UnknownService(service_id)
    reason, message = "busy", service.busy_message
    if not service.enabled:
        reason, message = "disabled", service.disabled_message
    elif Lease.objects.live().filter(service=service, owner=owner).exists():
        message = service.own_busy_message
    return ServiceBusy(message, service=service_id, reason=reason, retry_after=_retry_after(service_id))


def renew(grant: Grant, *, idle_for: float = 0.0) -> float | None:
    """Heartbeat: keep the lease for another TTL, its last activity `idle_for` seconds ago.

    Returns the seconds until it now expires, or None if the grant no longer holds the lease. However
    often it is called, a lease without activity ends at its idle timeout. Raises LeaseInTransaction.
    """
    row = _verdict(STATEMENTS[connection.vendor].renew, _holder(grant) | {"idle_for": max(idle_for, 0.0)})
    return None if row is None else row[0]


def release(grant: Grant, *, ended_as: Outcome = Outcome.RELEASED) -> bool:
    """Give the lease back. False, and nothing changed for anyone else, if the grant no longer held it.

    A holder that gave up by its own clock, a moment before the database's, says so with `ended_as`.
    Safe to call again and at any time. Raises LeaseInTransaction.
    """
    row = _verdict(STATEMENTS[connection.vendor].release, _holder(grant) | {"ended_as": ended_as.value})
    return row is not None and row[0] == ended_as


def force_release(service_id: str, session_id: str, *, by: str, reason: str) -> bool:
    """End this session whoever holds it, naming the operator and why; False if it had ended already.

    It never touches a successor's session. Raises LeaseInTransaction.
    """
    values = {"service_id": service_id, "session_id": session_id, "ended_by": by, "reason": reason}
    return _verdict(STATEMENTS[connection.vendor].force_release, values) is not None


def confirm(grant: Grant) -> bool:
    """Whether the grant still holds its lease; inside a transaction, it will until the transaction ends.

    This is the fence: call it first in the transaction that writes what was made under the lease.
    """
    with connection.cursor() as cursor:
        cursor.execute(STATEMENTS[connection.vendor].confirm, _holder(grant))
        return cursor.fetchone() is not None


def prolong(grant: Grant) -> float:
    """In the transaction that confirmed the grant, after its writing: the lease begins its deadlines anew.

    Returns the seconds until it expires.
    """
    with connection.cursor() as cursor:
        cursor.execute(STATEMENTS[connection.vendor].prolong, _holder(grant))
    return min(grant.ttl, grant.idle_timeout)


def fate(grant: Grant) -> Outcome:
    """How a session that is no longer current ended."""
    with connection.cursor() as cursor:
        cursor.execute(STATEMENTS[connection.vendor].fate, {"session_id": grant.session_id})
        row = cursor.fetchone()
    return Outcome(row[0]) if row else Outcome.LOST


def _verdict(statement: str, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Run one statement that commits by itself and return its row, if there is one."""
    if connection.in_atomic_block or not connection.get_autocommit():
        raise LeaseInTransaction
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone() if cursor.description else None


def _holder(grant: Grant) -> dict[str, Any]:
    return {
        "service_id": grant.service_id,
        "session_id": grant.session_id,
        "owner": grant.owner,
        "fencing_token": grant.fencing_token,
    }


def _retry_after(service_id: str) -> int:
    """Whole seconds after which another try makes sense: the median of recent holds, 1 to 60."""
    recent = Hold.objects.filter(service_id=service_id).order_by("-ended_at")
    spans = recent.annotate(span=F("ended_at") - F("started_at")).values_list("span", flat=True)[:20]
    seconds = [span.total_seconds() for span in spans]
    return min(max(ceil(median(seconds)), 1), 60) if seconds else 30

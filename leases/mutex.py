"""The mutex and its queue: the only code that writes leases and tickets.

Each verb is one conditional statement (see `leases.statements`). Its WHERE clause is the rule, the row
that it returns is the verdict, and the database's clock is the only clock. Every verb may be called
again when its answer was lost, and comes to the same.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from leases import refusals, wakeups
from leases.exceptions import LeaseInTransaction, UnknownService
from leases.models import Outcome
from leases.models import Ticket as TicketRow
from leases.statements import STATEMENTS, Statements
from leases.status import State, state_of

OFFER_SECONDS = 5.0
"""How long a grant waits to be taken up before it passes to the next in the queue."""

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """What a holder has to show. `session_id` is the secret: whoever knows it can renew and release."""

    service_id: str
    session_id: str
    owner: str
    fencing_token: int


@dataclass(frozen=True)
class Grant(Session):
    """The right to use a service until it is given back or expires; `ttl` and `idle_timeout` in seconds."""

    ttl: float
    idle_timeout: float


class Expiry(NamedTuple):
    """When a lease ends unless it is renewed: `left` seconds, or `at` by the database's clock (ms)."""

    left: float
    at: int


@dataclass(frozen=True)
class Ticket:
    """A place in a queue, kept alive by a heartbeat within each `ttl` (seconds).

    `waiter` is the secret of the request that waits on it.
    """

    id: int
    service_id: str
    owner: str
    waiter: str
    ttl: float


@dataclass(frozen=True)
class Place:
    """Where a ticket stands, 1 first; `offered` if the lease is its own to claim."""

    number: int
    offered: bool


def try_acquire(service_id: str, owner: str) -> Grant | None:
    """Take the lease if nobody holds it or waits for it; None otherwise, or if the service is disabled
    or unknown.

    Sessions that lapsed, of this service and of all others, are ended and written to the history on
    the way. One statement on PostgreSQL, two on SQLite. Raises LeaseInTransaction.
    """
    values = _asking(service_id, owner)
    statements = _statements()
    if connection.vendor == "postgresql":
        row = _verdict(f"WITH swept AS ({statements.sweep}) {statements.acquire}", values)
    else:
        _change(statements.sweep, {"service_id": service_id})
        row = _verdict(statements.acquire, values)
    return None if row is None else Grant(service_id, values["session_id"], owner, *row)


def acquire(service_id: str, owner: str) -> Grant:
    """Take the lease, or raise ServiceBusy with the reason, UnknownService or LeaseInTransaction.

    On PostgreSQL a refusal is one statement, too.
    """
    if connection.vendor != "postgresql":
        grant = try_acquire(service_id, owner)
        if grant is None:
            raise refusals.busy(state_of(service_id), owner)
        return grant
    values = _asking(service_id, owner)
    statements = _statements()
    row = _verdict(
        f"WITH swept AS ({statements.sweep}), taken AS ({statements.acquire}) {statements.taken_or_state}",
        values,
    )
    if row is None:
        raise UnknownService(service_id)
    taken, state = row[:3], row[3:]
    if taken[0] is None:
        raise refusals.busy(State(*state), owner)
    return Grant(service_id, values["session_id"], owner, *taken)


def renew(session: Session, *, idle_for: float = 0.0) -> float | None:
    """Heartbeat: keep the lease for another TTL, its last activity `idle_for` seconds ago.

    Returns the seconds until it now expires, or None if the session no longer holds the lease. However
    often it is called, a lease without activity ends at its idle timeout. Raises LeaseInTransaction.
    """
    expiry = renewal(session, idle_for=idle_for)
    return None if expiry is None else expiry.left


def renewal(session: Session, *, idle_for: float = 0.0) -> Expiry | None:
    """The same for those who want to know the moment, too."""
    row = _verdict(_statements().renew, _holder(session) | {"idle_for": max(idle_for, 0.0)})
    return None if row is None else Expiry(*row)


def renew_all(idle_for: Mapping[Grant, float]) -> dict[Grant, float]:
    """Heartbeat of many leases in one statement, each `idle_for` so many seconds: those that it kept, and
    the seconds until each now expires.

    One that is missing is not held any more, or is just being written under: `renew` tells which.
    Raises LeaseInTransaction.
    """
    sessions = {grant.session_id: grant for grant in idle_for}
    beats = [_holder(grant) | {"idle_for": max(seconds, 0.0)} for grant, seconds in idle_for.items()]
    values = {"heartbeats": json.dumps(beats)}
    rows = _again(lambda: _rows(_statements().renew_all, values))
    return {sessions[session_id]: expires_in for session_id, expires_in in rows}


def release(session: Session, *, ended_as: Outcome = Outcome.RELEASED) -> bool:
    """Give the lease back: to the first in the queue, if there is one. False, and nothing changed for
    anyone else, if the session no longer held it.

    A holder that gave up by its own clock, a moment before the database's, says so with `ended_as`.
    Safe to call again and at any time. Raises LeaseInTransaction.
    """
    ended = _hand_over(_statements().release, _holder(session) | {"ended_as": ended_as.value})
    return ended == ended_as


def force_release(service_id: str, session_id: str, *, by: str, reason: str) -> bool:
    """End this session whoever holds it, naming the operator and why; False if it had ended already.

    It never touches a successor's session. Raises LeaseInTransaction.
    """
    values = {"service_id": service_id, "session_id": session_id, "ended_by": by, "reason": reason}
    return _hand_over(_statements().force_release, values) is not None


def confirm(session: Session) -> bool:
    """Whether the session still holds its lease; inside a transaction, it will until the transaction ends.

    This is the fence: call it first in the transaction that writes what was made under the lease.
    """
    with connection.cursor() as cursor:
        cursor.execute(_statements().confirm, _holder(session))
        return cursor.fetchone() is not None


def prolong(grant: Grant) -> float:
    """In the transaction that confirmed the grant, after its writing: the lease begins its deadlines anew.

    Returns the seconds until it expires.
    """
    with connection.cursor() as cursor:
        cursor.execute(_statements().prolong, _holder(grant))
    return min(grant.ttl, grant.idle_timeout)


def fate(grant: Grant) -> Outcome:
    """How a session that is no longer current ended."""
    return ended(grant) or Outcome.LOST


def ended(session: Session) -> Outcome | None:
    """How the session ended; None if it holds its lease, or if there is no such session in the history."""
    with connection.cursor() as cursor:
        cursor.execute(_statements().fate, _holder(session))
        row = cursor.fetchone()
    return Outcome(row[0]) if row else None


def enqueue(service_id: str, owner: str, waiter: str) -> Ticket:
    """Wait for the service: at the end of its queue, or in the place that this owner has there already.

    One owner has one ticket a service; the request that came last, named by `waiter`, is the one that
    waits on it. Raises ServiceBusy if the queue is full or the service disabled, UnknownService, and
    LeaseInTransaction. `advance` must follow, in case that the lease has become free meanwhile.
    """
    statements = _statements()
    values = {"service_id": service_id, "owner": owner, "waiter": waiter, "process": wakeups.process_id()}
    values |= _times() | {"queue_limit": settings.LEASE_QUEUE_LIMIT}

    def insert() -> tuple[Any, ...] | None:
        _refuse_transaction()
        # One at a time, so that the numbers are in the order of the commits and the limit is exact.
        with transaction.atomic(durable=True), connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute(statements.lock_queue, values)
            cursor.execute(statements.forget, values)
            cursor.execute(statements.enqueue, values)
            row: tuple[Any, ...] | None = cursor.fetchone()
            return row

    row = _again(insert)
    if row is not None:
        return Ticket(row[0], service_id, owner, waiter, row[1])
    state = state_of(service_id)
    raise refusals.queue_full(state) if state.enabled else refusals.busy(state, owner)


def advance(service_id: str) -> bool:
    """Grant a lease that is free or has lapsed to the first in its queue; whether there was one.

    Nothing signals an expiry, and a ticket may come at the moment of a release: those who wait call this.
    """
    values = {"service_id": service_id}
    statements = _statements()
    if connection.vendor == "postgresql":
        advance = statements.advance.removeprefix("WITH")
        return _hand_over(f"WITH passed AS ({statements.pass_over}), {advance}", values) is not None
    _change(statements.pass_over, values)
    return _hand_over(statements.advance, values) is not None


def claim(ticket: Ticket) -> Grant | None:
    """Take up the grant that was handed to this ticket, which is used up with it; None if there is none."""
    statements = _statements()
    values = {"service_id": ticket.service_id, "waiter": ticket.waiter}
    if connection.vendor == "postgresql":
        row = _verdict(
            f"WITH taken AS ({statements.claim}), used AS ({statements.use_up}) SELECT * FROM taken",
            values,
        )
    else:
        _refuse_transaction()
        with transaction.atomic(durable=True), connection.cursor() as cursor:
            cursor.execute(statements.claim, values)
            row = cursor.fetchone()
            if row is not None:
                cursor.execute(statements.unqueue, values)
    return None if row is None else Grant(*row)


def keep(waiters: Collection[str]) -> set[str]:
    """Heartbeat of tickets, by their waiters: those that are still there, and live for another TTL.

    A ticket that expired unnoticed lives again, in its old place.
    """
    values = {"listed": json.dumps(list(waiters)), **_times()}
    statements = _statements()
    keep = statements.keep
    if connection.vendor == "postgresql":
        keep = f"WITH kept AS ({keep}) {statements.there}"
    return {row[0] for row in _again(lambda: _rows(keep, values))}


def places(waiters: Collection[str]) -> dict[str, Place]:
    """Where these waiters' tickets stand; those that are not live are left out. One query."""
    rows = _again(lambda: _rows(_statements().places, {"listed": json.dumps(list(waiters))}))
    return {waiter: Place(number, bool(offered)) for waiter, number, offered in rows}


def offers() -> list[int]:
    """The tickets whose grants wait to be taken up."""
    return [row[0] for row in _rows(_statements().offers, {})]


def leave(ticket: Ticket) -> None:
    """Give the place up. What was granted to it already passes to the next."""
    _change(_statements().unqueue, {"waiter": ticket.waiter})
    _pass_on(ticket)


def step_aside(ticket: Ticket) -> None:
    """Nobody waits on the ticket any more; its caller may come back to the place until it expires."""
    _change(_statements().step_aside, {"waiter": ticket.waiter})
    _pass_on(ticket)


def remove(ticket_id: int) -> tuple[str, str] | None:
    """Take a live ticket out of its queue; its service and owner, None if nobody waits on it any more.

    Its request is told so, and may queue again at the end. Raises LeaseInTransaction.
    """
    row = _verdict(_statements().remove, {"ticket_id": ticket_id})
    if row is None:
        return None
    service_id, owner = row
    _hand_over(_statements().pass_on, {"service_id": service_id, "ticket_id": ticket_id})
    return service_id, owner


def removed(ticket: Ticket) -> bool:
    """Whether an operator took the ticket out of the queue."""
    return TicketRow.objects.filter(pk=ticket.id, removed_at__isnull=False).exists()


def superseded(ticket: Ticket) -> bool:
    """Whether a later request of the same owner waits in this place now."""
    return TicketRow.objects.filter(pk=ticket.id).exclude(waiter=ticket.waiter).exists()


def _pass_on(ticket: Ticket) -> None:
    _hand_over(_statements().pass_on, {"service_id": ticket.service_id, "ticket_id": ticket.id})


def _hand_over(statement: str, values: Mapping[str, Any]) -> str | None:
    """End a session and wake whoever has the lease now; how the session ended, None if it was not there."""
    row = _verdict(
        statement,
        {
            **values,
            **_times(),
            "next_session": uuid4().hex,
            "offer": OFFER_SECONDS,
            "process": wakeups.process_id(),
        },
    )
    if row is None:
        return None
    ended_as, offered_to = row[:2]
    if offered_to is not None:
        wakeups.wake(offered_to)
    return str(ended_as)


def _verdict(statement: str, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Run one statement that commits by itself and return its row, if there is one."""
    rows = _again(lambda: _rows(statement, values))
    return rows[0] if rows else None


def _change(statement: str, values: Mapping[str, Any]) -> None:
    """Run one statement that commits by itself and has nothing to say."""

    def change() -> None:
        _refuse_transaction()
        with _database().cursor() as cursor:
            cursor.execute(statement, values)

    _again(change)


def _rows(statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    _refuse_transaction()
    with _database().cursor() as cursor:
        cursor.execute(statement, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _again(call: Callable[[], T]) -> T:
    """Call, and call once more over a new connection if the first broke: every verb allows for it."""
    database = _database()
    database.ensure_connection()
    used = database.connection
    try:
        return call()
    except DatabaseError:
        if database.connection is used:  # else the end of a transaction has replaced the broken one
            if database.is_usable():
                raise
            database.close()
        if (pool := getattr(database, "pool", None)) is not None:
            pool.check()  # its other connections are broken too, when the server was restarted
    return call()


def _refuse_transaction() -> None:
    database = _database()
    if database.in_atomic_block or not database.get_autocommit():
        raise LeaseInTransaction


def _statements() -> Statements:
    return STATEMENTS[_database().vendor]


def _database() -> BaseDatabaseWrapper:
    return connections[DEFAULT_DB_ALIAS]


def _times() -> dict[str, float]:
    return {"ttl": settings.LEASE_TTL, "idle_timeout": settings.LEASE_IDLE_TIMEOUT}


def _asking(service_id: str, owner: str) -> dict[str, Any]:
    return {"service_id": service_id, "session_id": uuid4().hex, "owner": owner, **_times()}


def _holder(session: Session) -> dict[str, Any]:
    return {
        "service_id": session.service_id,
        "session_id": session.session_id,
        "owner": session.owner,
        "fencing_token": session.fencing_token,
    }

"""Waiting for a lease: a place in the queue, and the one thread of this process that watches them all.

However many wait here, they cost one query or two a second together, no connection, and no thread each.
"""

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from math import inf
from time import monotonic
from uuid import uuid4

from django.conf import settings
from django.db import DatabaseError, connection

from leases import mutex, refusals, wakeups
from leases.exceptions import LeaseError
from leases.owners import may_come_back
from leases.status import State, state_of, states

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""What a lost notification costs at most."""
GLANCE_SECONDS = 0.02
"""SQLite: how often to glance at the file's change counter, which tells whether there is anything to see."""


class Waiting:
    """One caller in a queue, where it stands as this process last saw it. Any thread may call.

    `wake` is called, from whatever thread, when `place`, `refused` or what can be claimed has changed.
    """

    def __init__(self, service_id: str, owner: str, wake: Callable[[], None]) -> None:
        self.service_id = service_id
        self.waiter = uuid4().hex
        self.place: int | None = None
        self.estimate: int | None = None
        self.yours = False  # the owner is the one whose use is waited for
        self.refused: LeaseError | None = None
        self._owner = owner
        self._wake = wake
        self._ticket: mutex.Ticket | None = None
        self._offered = False
        self._left = False
        self._lock = threading.Lock()  # over its tickets: a claim and a loss must not cross

    def enter(self) -> None:
        """Join the queue; where, is seen soon. Raises ServiceBusy, UnknownService, LeaseInTransaction."""
        with self._lock:
            self._enqueue()
            mutex.advance(self.service_id)
        _room().enter(self)

    def claim(self, *, anyway: bool = False) -> mutex.Grant | None:
        """The lease, if it was handed to this place. Raises why waiting on makes no sense."""
        if self.refused is not None:
            self.step_aside()
            raise self.refused
        with self._lock:
            if self._ticket is None or not (self._offered or anyway):
                return None
            self._offered = False
            try:
                grant = mutex.claim(self._ticket)
            except DatabaseError:
                if anyway:
                    raise
                logger.warning("Could not claim %s: looking again.", self.service_id, exc_info=True)
                return None
            if grant is not None:
                self._forget()
            return grant

    def leave(self) -> None:
        """Give the place up."""
        self._end(mutex.leave)

    def step_aside(self) -> None:
        """Nobody waits here any more, but the owner may come back to the place."""
        self._end(mutex.step_aside if may_come_back(self._owner) else mutex.leave)

    def see(self, place: mutex.Place | None, service: State) -> None:
        """Take note of what the database says, and wake the caller if it is news."""
        if not service.enabled:
            self.refuse(refusals.busy(service, self._owner))
        if place is None:
            return
        news = place.offered or place.number != self.place
        self.place, self.estimate = place.number, service.estimated_wait(place.number)
        self.yours = service.owner == self._owner
        self._offered = self._offered or place.offered
        if news:
            self._wake()

    def refuse(self, error: LeaseError) -> None:
        """Waiting on makes no sense: the caller is told why."""
        self.refused = error
        self._wake()

    def lost(self) -> None:
        """The ticket is not there any more: taken over by its owner's next request, removed by an operator,
        or expired unseen."""
        with self._lock:
            if self._left or self._ticket is None:
                return
            if mutex.removed(self._ticket):
                self.refuse(refusals.removed(state_of(self.service_id)))
                return
            if mutex.superseded(self._ticket):
                self.refuse(refusals.superseded(state_of(self.service_id)))
                return
            wakeups.forget(self._ticket.id, self._offer)
            try:
                self._enqueue()
            except LeaseError as error:
                self.refuse(error)

    @property
    def heartbeat(self) -> float:
        """Seconds between the heartbeats of the ticket."""
        usual: float = settings.LEASE_HEARTBEAT
        return min(usual, self._ticket.ttl / 3) if self._ticket else usual

    def _enqueue(self) -> None:
        self._ticket = mutex.enqueue(self.service_id, self._owner, self.waiter)
        wakeups.expect(self._ticket.id, self._offer)

    def _offer(self) -> None:
        self._offered = True
        self._wake()

    def _end(self, give_up: Callable[[mutex.Ticket], None]) -> None:
        with self._lock:
            self._forget()
            if self._ticket is not None:
                give_up(self._ticket)

    def _forget(self) -> None:
        self._left = True
        _room().leave(self)
        if self._ticket is not None:
            wakeups.forget(self._ticket.id, self._offer)


class _Room:
    """All who wait in this process, and the thread that looks for them; it ends when nobody waits."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._listener: wakeups.Listener | None = None
        self._next_beat = inf
        self._seen_version: int | None = None
        self._closing = False
        self._stirred = threading.Event()  # somebody came, or nobody is left

    def enter(self, waiting: Waiting) -> None:
        if self._closing:
            waiting.refuse(refusals.stopping(state_of(waiting.service_id)))
        with self._lock:
            self._waiting[waiting.waiter] = waiting
            self._next_beat = min(self._next_beat, monotonic() + waiting.heartbeat)
            self._stirred.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease queue", daemon=True)
                self._thread.start()

    def leave(self, waiting: Waiting) -> None:
        with self._lock:
            self._waiting.pop(waiting.waiter, None)
            if not self._waiting:
                self._stirred.set()

    def everybody(self) -> list[Waiting]:
        with self._lock:
            return list(self._waiting.values())

    def close_doors(self) -> list[Waiting]:
        """Whoever comes from now on is sent away; returns who is here already."""
        self._closing = True
        return self.everybody()

    def close(self) -> None:
        """Stop watching and listening; nobody waits any more."""
        self._closing = False
        if (thread := self._thread) is not None:
            thread.join(POLL_SECONDS * 3)
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    def _run(self) -> None:
        if connection.vendor == "postgresql" and (self._listener is None or not self._listener.alive):
            self._listener = wakeups.Listener()
            self._listener.listening.wait(POLL_SECONDS)  # what was handed over before is found by looking
        try:
            while not self._is_empty():
                self._pause(self._look())
        finally:
            connection.close()

    def _is_empty(self) -> bool:
        with self._lock:
            self._stirred.clear()
            if self._waiting:
                return False
            self._thread = None
            return True

    def _look(self) -> float:
        """Look for everybody once; the seconds until it is time to look again."""
        try:
            return self._looked()
        except DatabaseError:
            logger.warning("Cannot look after the queue: the database does not answer.", exc_info=True)
            return POLL_SECONDS
        except Exception:
            logger.exception("Looking after the queue failed.")
            return POLL_SECONDS
        finally:
            if connection.vendor == "postgresql":
                connection.close()

    def _looked(self) -> float:
        everybody = {waiting.waiter: waiting for waiting in self.everybody()}
        if monotonic() >= self._next_beat:
            mutex.keep(everybody)
            with self._lock:  # of all who are here by now
                beats = (waiting.heartbeat for waiting in self._waiting.values())
                self._next_beat = monotonic() + min(beats, default=inf)
        places = mutex.places(everybody)
        if missing := everybody.keys() - places.keys():
            for waiter in missing - mutex.keep(missing):
                everybody[waiter].lost()
        services = {service.id: service for service in states()}
        pause = min(POLL_SECONDS, max(self._next_beat - monotonic(), 0.0))
        for service_id in {waiting.service_id for waiting in everybody.values()}:
            expires_in = services[service_id].expires_in
            if expires_in is None:
                mutex.advance(service_id)
            else:
                pause = min(pause, expires_in + 0.001)  # nothing else signals an expiry
        for waiter, waiting in everybody.items():
            waiting.see(places.get(waiter), services[waiting.service_id])
        return pause

    def _pause(self, seconds: float) -> None:
        """Sleep. On SQLite nobody sends notifications: glance at what was handed over meanwhile."""
        if connection.vendor == "postgresql":
            self._stirred.wait(seconds)
            return
        until = monotonic() + seconds
        while monotonic() < until and not self._stirred.wait(min(GLANCE_SECONDS, seconds)):
            with suppress(DatabaseError):
                if (version := _version()) != self._seen_version:
                    self._seen_version = version
                    for ticket_id in mutex.offers():
                        wakeups.wake(ticket_id)


@cache
def _room_of(pid: int) -> _Room:
    return _Room()


def _room() -> _Room:
    """This process's: in a fork nobody waits yet, and there is no such thread."""
    return _room_of(os.getpid())


_room()  # two threads that came first together would have one each


def turn_away() -> None:
    """Tell all who wait in this process, or would, that it is about to end. Their places are kept."""
    services = {service.id: service for service in states()}
    for waiting in _room().close_doors():
        waiting.refuse(refusals.stopping(services[waiting.service_id]))


def close() -> None:
    """Stop this process's watching and listening; nobody waits any more."""
    _room().close()


def _version() -> int:
    """SQLite's count of other connections' commits."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA data_version")
        return int(cursor.fetchone()[0])

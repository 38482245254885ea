"""A lease in its holder's hands: what the work sees of it, and its heartbeat."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from django.conf import settings
from django.db import DatabaseError, transaction

from leases import mutex
from leases.exceptions import LeaseLost
from leases.models import Outcome

logger = logging.getLogger(__name__)


class Held:
    """A lease in its holder's hands. Any thread may call `activity` and `fenced`."""

    def __init__(self, grant: mutex.Grant, taken_at: float) -> None:
        self.grant = grant
        self.taken_at = taken_at
        self.lost: LeaseLost | None = None
        self._writers = 0
        self._counting = threading.Lock()
        self._active_at = taken_at
        self._heartbeat: float = min(settings.LEASE_HEARTBEAT, grant.ttl / 3, grant.idle_timeout / 3)
        self._expires_at = taken_at + min(grant.ttl, grant.idle_timeout)

    def activity(self) -> None:
        """Say that the work goes on (a token, a batch). Costs no query. Raises LeaseLost."""
        self.lost = self.lost or self.late()  # the heartbeat may hang
        if self.lost is not None:
            raise self.lost
        self._active_at = monotonic()

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """A transaction that commits only while this lease is held: write results inside it.

        The row is locked meanwhile, so the lease cannot end before the commit, however long the writing
        takes; it is prolonged with it. Raises LeaseLost, and writes nothing, if the lease is gone.
        """
        with self._counting:
            self._writers += 1
        try:
            with transaction.atomic(durable=True):
                if not mutex.confirm(self.grant):
                    raise self.loss(mutex.fate(self.grant))
                yield
                self._active_at = monotonic()
                self._expires_at = self._active_at + mutex.prolong(self.grant)
        finally:
            with self._counting:
                self._writers -= 1

    @property
    def writing(self) -> bool:
        """Whether the lease is being written under: its row is locked, and ours until that ends."""
        return self._writers > 0

    def beat(self) -> None:
        """One heartbeat. Raises LeaseLost when the lease is gone, or when this process could not
        keep it: too long without activity, or without an answer from the database."""
        if self.writing:
            return
        asked_at = monotonic()
        if self.until_expiry() <= 0 and self._is_idle():
            raise self.overdue()
        try:
            left = mutex.renew(self.grant, idle_for=self.idle_for(asked_at))
            ended_as = mutex.fate(self.grant) if left is None else None
        except DatabaseError:
            logger.warning(
                "No heartbeat for %s: the database did not answer.", self.grant.service_id, exc_info=True
            )
            if (late := self.late()) is not None:
                raise late from None
            return
        if ended_as is not None:
            raise self.loss(ended_as)
        self.renewed(asked_at, left or 0.0)

    def renewed(self, asked_at: float, left: float) -> None:
        """A heartbeat sent at that moment found the lease with so many seconds left."""
        # One that waited for a writing comes back after it: what that made of the expiry is later.
        self._expires_at = max(self._expires_at, asked_at + left)

    def late(self) -> LeaseLost | None:
        """The loss of a lease that ran out by this process's own clock, as none does that is being written
        under."""
        return self.overdue() if self.until_expiry() <= 0 and not self.writing else None

    def idle_for(self, now: float) -> float:
        """Seconds since the last activity."""
        return now - self._active_at

    def overdue(self) -> LeaseLost:
        """The error for a lease that this process could not prolong in time, by its own clock."""
        return self.loss(Outcome.EXPIRED if self._is_idle() else Outcome.LOST)

    def _is_idle(self) -> bool:
        return self.idle_for(monotonic()) >= self.grant.idle_timeout

    def until_beat(self) -> float:
        """Seconds to wait before the next heartbeat is due: closer together towards the expiry, so that
        the last signs of activity are told in time."""
        if self.writing:
            return self._heartbeat
        left = self.until_expiry()
        return min(self._heartbeat, max(left / 2, min(left, 0.05)))

    def until_expiry(self) -> float:
        """Seconds for which this process may still believe that it holds the lease."""
        return max(self._expires_at - monotonic(), 0.0)

    def loss(self, ended_as: str) -> LeaseLost:
        """The error that tells this holder how its session ended."""
        return LeaseLost(self.grant.service_id, ended_as)

"""The heartbeats of synchronous work: one thread of this process renews all the leases that it holds.

However many they are, a heartbeat is one statement. The thread starts with the first lease, and ends when
a heartbeat is due and nothing is held.
"""

import logging
import os
import threading
from functools import cache
from math import inf
from time import monotonic

from django.db import DatabaseError, connection

from leases import mutex
from leases.exceptions import LeaseLost
from leases.held import Held

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""After a heartbeat that failed in a way that nobody foresaw."""


class _Keeper:
    def __init__(self) -> None:
        self._held: set[Held] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._due = inf
        self._sooner = threading.Event()

    def keep(self, held: Held) -> None:
        with self._lock:
            self._held.add(held)
            due = monotonic() + held.until_beat()
            if due < self._due:
                self._due = due
                self._sooner.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease heartbeats", daemon=True)
                self._thread.start()

    def drop(self, held: Held) -> None:
        with self._lock:
            self._held.discard(held)

    def _run(self) -> None:
        while self._rest():
            try:
                self._beat()
            except Exception:
                logger.exception("The heartbeats failed; trying again.")
                self._sooner.wait(RETRY_SECONDS)
            finally:
                connection.close()

    def _rest(self) -> bool:
        """Sleep until a heartbeat is due; False, and this thread has to end, if there is none."""
        while (left := self._due - monotonic()) > 0:
            self._sooner.wait(left)
            self._sooner.clear()
        with self._lock:
            if self._held:
                return True
            self._thread, self._due = None, inf
            return False

    def _beat(self) -> None:
        """One heartbeat for all; whoever has lost the lease finds the reason in `lost`."""
        with self._lock:
            beating = [held for held in self._held if not held.writing]
        asked_at = monotonic()
        try:
            left = mutex.renew_all({held.grant: held.idle_for(asked_at) for held in beating})
        except DatabaseError:
            logger.warning("No heartbeats: the database did not answer.", exc_info=True)
            left = None
        for held in beating:
            try:
                if left is None:
                    held.unheard()
                elif held.grant in left:
                    held.renewed(asked_at, left[held.grant])
                else:
                    held.beat()  # which tells why
            except LeaseLost as lost:
                held.lost = lost
                self.drop(held)
        with self._lock:
            self._due = monotonic() + min((held.until_beat() for held in self._held), default=0.0)


@cache
def _keeper_of(pid: int) -> _Keeper:
    return _Keeper()


def keep(held: Held) -> None:
    """Renew this lease in time from now on. When it is lost, `held.lost` tells how."""
    _keeper_of(os.getpid()).keep(held)  # a fork holds nothing, and has no such thread


def drop(held: Held) -> None:
    """Renew it no longer."""
    _keeper_of(os.getpid()).drop(held)

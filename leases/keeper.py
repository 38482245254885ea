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
from leases.held import Held

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""After a heartbeat that failed in a way that nobody foresaw."""


class _Keeper:
    def __init__(self) -> None:
        self._held: set[Held] = set()
        self._lock = threading.RLock()  # the collector may end a hold in whatever thread it runs
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
            if self._thread is None or not self._thread.is_alive():
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
        with self._lock:
            beating = [held for held in list(self._held) if not held.writing]
        if beating:
            self._renew(beating)
        with self._lock:
            self._due = monotonic() + min((held.until_beat() for held in list(self._held)), default=0.0)

    def _renew(self, beating: list[Held]) -> None:
        """One heartbeat for all; whoever has lost the lease finds the reason in `lost`."""
        asked_at = monotonic()
        try:
            kept = mutex.renew_all({held.grant: held.idle_for(asked_at) for held in beating})
            for held in beating:
                if held.grant in kept:
                    held.renewed(asked_at, kept[held.grant])
            for held in beating:
                # One that has not ended is just being written under: nobody waits for that.
                if held.grant not in kept and (how := mutex.ended(held.grant)) is not None:
                    held.lost = held.loss(how)
        except DatabaseError:
            logger.warning("No heartbeats: the database did not answer.", exc_info=True)
        for held in beating:
            held.lost = held.lost or held.late()
            if held.lost is not None:
                self.drop(held)


@cache
def _keeper_of(pid: int) -> _Keeper:
    return _Keeper()


def keep(held: Held) -> None:
    """Renew this lease in time from now on. When it is lost, `held.lost` tells how."""
    _keeper_of(os.getpid()).keep(held)  # a fork holds nothing, and has no such thread


def drop(held: Held) -> None:
    """Renew it no longer."""
    _keeper_of(os.getpid()).drop(held)


_keeper_of(os.getpid())  # two threads that came first together would have one each

"""“Something may have changed”: who in this process is to be woken when the lease is theirs to claim.

A wake-up is a hint. What makes waiting correct is looking (`leases.waiting`); a lost wake-up costs at
most one poll. On PostgreSQL each process listens on a channel of its own, over one connection that is
not Django's: it must not go through a transaction pooler, hence DATABASE_LISTEN_URL. SQLite has nothing
to listen to.
"""

import logging
import os
import threading
from collections.abc import Callable
from functools import cache
from math import inf
from time import monotonic
from uuid import uuid4

import psycopg
from django.conf import settings
from django.db import connection

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0
REMIND_SECONDS = 60.0  # how often it is said at most that nothing is heard
STOP_SECONDS = 0.5  # how often a listener looks whether it is to stop

_sleepers: dict[int, Callable[[], None]] = {}


@cache
def _id_of(pid: int) -> str:
    return uuid4().hex


def process_id() -> str:
    """This process's name in tickets, and of its channel; a fork has its own."""
    return _id_of(os.getpid())


def expect(ticket_id: int, wake: Callable[[], None]) -> None:
    """Call `wake`, from any thread, whenever the ticket may have been handed the lease."""
    _sleepers[ticket_id] = wake


def forget(ticket_id: int, wake: Callable[[], None]) -> None:
    """Stop calling, unless a later request waits on the same ticket."""
    if _sleepers.get(ticket_id) == wake:  # bound methods are equal, not identical
        del _sleepers[ticket_id]


def wake(ticket_id: int) -> None:
    """Wake whoever waits on this ticket, if that is in this process."""
    if (sleeper := _sleepers.get(ticket_id)) is not None:
        sleeper()


class Listener:
    """One thread and one connection that hear this process's channel, and come back when they break."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._warned_at = -inf
        self._thread = threading.Thread(target=self._run, name="lease listener", daemon=True)
        self.listening = threading.Event()
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = monotonic()
            try:
                self._listen()
            except psycopg.Error as error:
                self.listening.clear()
                self._warn(error)
                self._stop.wait(max(began + RECONNECT_SECONDS - monotonic(), 0.0))

    def _warn(self, error: psycopg.Error) -> None:
        if monotonic() - self._warned_at >= REMIND_SECONDS:
            self._warned_at = monotonic()
            # Its text may quote the URL, with the password.
            logger.warning("Not hearing of hand-overs, trying again: %s", type(error).__name__)

    def _listen(self) -> None:
        with _listening_connection() as listening:
            listening.execute(f"LISTEN leases_{process_id()}")
            self.listening.set()
            while not self._stop.is_set():
                for notice in listening.notifies(timeout=STOP_SECONDS):
                    if notice.payload.isdecimal():
                        wake(int(notice.payload))


def _listening_connection() -> psycopg.Connection:
    if settings.DATABASE_LISTEN_URL:
        return psycopg.connect(settings.DATABASE_LISTEN_URL, autocommit=True, connect_timeout=5)
    return psycopg.connect(**connection.get_connection_params(), autocommit=True)

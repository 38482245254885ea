"""Somebody else's transaction that holds rows."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def held_by_another(hold: Callable[[], object]) -> Iterator[None]:
    """Another connection does `hold`, which says whether it got them, in a transaction that lasts as long as
    the block; this one waits for no row longer than two seconds. PostgreSQL only."""
    held, done = threading.Event(), threading.Event()

    def work() -> None:
        try:
            with transaction.atomic():
                assert hold()
                held.set()
                assert done.wait(20)
        finally:
            connection.close()

    holding = threading.Thread(target=work)
    holding.start()
    try:
        assert held.wait(10)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        yield
    finally:
        done.set()
        holding.join()
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")

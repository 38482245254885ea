"""Database work from async code, without keeping a connection over what comes next.

A thread that has once asked the database keeps its connection until its request ends. A request that
waits for a model would keep it for minutes, and a dozen of them would use up the pool for everybody.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connection, models, transaction

P = ParamSpec("P")
T = TypeVar("T")

_threads = ThreadPoolExecutor(40, thread_name_prefix="database")  # some of them read files meanwhile


def returning(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function and give this thread's connection back, whatever happens."""
    try:
        return function(*args, **kwargs)
    finally:
        connection.close()


async def in_database(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call synchronous database work in a thread and give its connection back."""
    call = sync_to_async(returning, thread_sensitive=False, executor=_threads)
    return await call(function, *args, **kwargs)


def delete_whole(rows: models.QuerySet[Any]) -> None:
    """Delete rows and all that hangs on them.

    Whoever is writing to one of them finishes first: what they add would otherwise come after what hangs on
    it was looked for, and the database would keep the row for it.
    """
    with transaction.atomic():
        locked = list(rows.select_for_update().values_list("pk", flat=True))
        rows.model._default_manager.filter(pk__in=locked).delete()


class Together(Generic[T]):
    """A question to the database that is asked once for all who ask at the same time.

    Whoever comes while it is being asked waits for the next time, which begins after they came: nobody is
    told what was true before they asked.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="together")
        self._lock = threading.Lock()
        self._next: asyncio.Future[T] | None = None

    async def ask(self) -> T:
        """The answer of the next time, or the error that it ended in."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._next is None or self._next.get_loop() is not loop:
                self._next = loop.run_in_executor(self._thread, self._once)
            future = self._next
        # Whoever goes away meanwhile takes nothing from the others.
        return await asyncio.shield(future)

    def _once(self) -> T:
        with self._lock:
            self._next = None
        return returning(self._function)

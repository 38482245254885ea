"""Database work from async code, without keeping a connection over what comes next.

A thread that has once asked the database keeps its connection until its request ends. A request that
waits for a model would keep it for minutes, and a dozen of them would use up the pool for everybody.
The thread that asgiref makes for each request is kept for as long, too.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connection

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


def give_thread_back() -> None:
    """End the thread that asgiref keeps for the synchronous parts of the current request.

    It does so from the first of them until the request is over, so that a thousand waiting requests
    would be a thousand threads. The next synchronous part gets a new one.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context else None
    if executor is not None:
        executor.shutdown(wait=False)

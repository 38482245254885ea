"""Database work from async code, without keeping a connection over what comes next.

A thread that has once asked the database keeps its connection until its request ends. A request that
waits for a model would keep it for minutes, and a dozen of them would use up the pool for everybody.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connection

P = ParamSpec("P")
T = TypeVar("T")


def returning(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function and give this thread's connection back, whatever happens."""
    try:
        return function(*args, **kwargs)
    finally:
        connection.close()


async def in_database(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call synchronous database work in the request's thread and give its connection back."""
    return await sync_to_async(returning)(function, *args, **kwargs)

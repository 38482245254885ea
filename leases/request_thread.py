"""The thread in which the synchronous parts of one request run, one after another.

asgiref starts a thread for the first of them, and when the request is over another that waits for that one to
end. Here a request borrows one that is there already.
"""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar, ParamSpec, TypeVar

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from leases.database import returning

P = ParamSpec("P")
T = TypeVar("T")

KEPT = 8  # threads that nobody borrows at the moment; more of them end


class RequestThread(Executor):
    """One for each request: a thread from its first synchronous part on, until it is given back.

    Between these parts it keeps no connection: the request may ask for one in another thread meanwhile, and
    as many requests as there are connections would wait for each other. All of it is called from the event
    loop.
    """

    _idle: ClassVar[list[ThreadPoolExecutor]] = []

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._last: Future[Any] | None = None

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._thread is None:
            idle = self._idle
            self._thread = idle.pop() if idle else ThreadPoolExecutor(1, thread_name_prefix="request")
        self._last = future = self._thread.submit(partial(returning, function, *args, **kwargs))
        return future

    def give_back(self, *, as_new: bool = True) -> None:
        """Let others have the thread; or end it if it may have a connection still, which is not `as_new`."""
        thread, self._thread = self._thread, None
        if thread is None or self._last is None:
            return
        if as_new and self._last.done() and len(self._idle) < KEPT:
            self._idle.append(thread)
        else:
            thread.shutdown(wait=False)


@asynccontextmanager
async def request_thread() -> AsyncIterator[None]:
    """What is synchronous in the block runs in a thread of its own."""
    thread = RequestThread()
    as_new = False
    try:
        async with ThreadSensitiveContext(executor=thread):
            yield
        as_new = True
    finally:
        thread.give_back(as_new=as_new)


def give_thread_back() -> None:
    """Let others have the current request's thread, which it would keep until it is over: a thousand requests
    that wait would be a thousand threads. Its next synchronous part gets another."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    thread = SyncToAsync.context_to_thread_executor.get(context) if context else None
    if isinstance(thread, RequestThread):
        thread.give_back()

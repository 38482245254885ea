"""Server-sent events of one piece of work (the WHATWG's text/event-stream)."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from leases.request_thread import give_thread_back
from leases.turn import Tell

KEEP_ALIVE_SECONDS = 15.0
HEAD_START_SECONDS = 0.3
"""How long after `started` a failure still gets a status of its own instead of an `error` event."""

Body = dict[str, Any]


class EventStream(AsyncIterator[bytes]):
    """The events of work that runs in a task of its own, and ends with its client.

    `work` is given the function to tell an event with, and returns the body of `done`; `explain` makes
    the body of `error` of whatever it raises; `undo` is called if the client cannot have got `done`. A
    slow client holds up neither the work nor the lease.

    `close` is synchronous and may be called at any time: when a client vanishes while the server is
    blocked in a send, nothing asynchronous is sure to run.
    """

    def __init__(
        self,
        work: Callable[[Tell], Awaitable[Body]],
        explain: Callable[[Exception], Body],
        undo: Callable[[], None],
    ) -> None:
        self._explain = explain
        self._undo = undo
        self._last: bytes | None = None  # the event `done`, until it has set out
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._speaking = asyncio.Event()
        self._error: Exception | None = None
        self._over = False
        self._task = asyncio.create_task(self._run(work))

    async def begin(self) -> None:
        """Wait until there is something to say. Raises what the work raised before that."""
        try:
            await self._speaking.wait()
        except asyncio.CancelledError:
            self.close()
            raise
        if self._error is not None:
            self._over = True
            raise self._error

    def close(self) -> None:
        """Stop the work, if it still goes on; undo it, if nobody heard of its end."""
        self._task.cancel()
        if self._last is not None:
            self._last = None
            self._undo()

    def __aiter__(self) -> "EventStream":
        give_thread_back()
        return self

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                event = await self._events.get()
        except TimeoutError:
            return b": still here\n\n"
        if event is not None:
            if event is self._last:
                self._last = None
            return event
        self._over = True
        if self._error is None:
            raise StopAsyncIteration
        return _encoded("error", self._explain(self._error))

    async def _run(self, work: Callable[[Tell], Awaitable[Body]]) -> None:
        with suppress(asyncio.CancelledError):
            try:
                body = await work(self._tell)
                self._last = self._tell("done", body)
            except Exception as error:  # noqa: BLE001 - told to the client, or raised by begin()
                self._error = error
        self._events.put_nowait(None)
        self._speaking.set()

    def _tell(self, event: str, data: Body) -> bytes:
        encoded = _encoded(event, data)
        self._events.put_nowait(encoded)
        if event == "started":
            asyncio.get_running_loop().call_later(HEAD_START_SECONDS, self._speaking.set)
        else:
            self._speaking.set()
        return encoded


def _encoded(event: str, data: Body) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()

"""The beginning and the end of a server process."""

import asyncio
import gc
import logging
import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from chat.engines import get_engine
from config.health import stopping
from documents.embedders import get_embedder
from leases.database import returning
from leases.holding import shut_down
from leases.waiting import turn_away

logger = logging.getLogger(__name__)

WARM_UP_AFTER = 1.0  # s: loading holds the interpreter for most of a second, and a new server answers first
RELEASE_SECONDS = 5.0


class Lifespan:
    """ASGI middleware: begins to load both engines at the start, gives every lease back at the end.

    A signal to end sends those away at once who wait in a queue, and lets those finish who are being
    served. The server stops waiting for its requests after its grace period and then sends the end;
    whatever still works under a lease is cancelled here, since afterwards the process is gone at once.
    """

    def __init__(self, application: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self.application = application
        self._warming: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self.application(scope, receive, send)
            return
        await receive()
        gc.collect()
        gc.freeze()  # what is there by now stays: looking through it would stop all requests for 100 ms
        BaseDatabaseWrapper.queries_limit = 0  # of a trial's statements, people's texts in them, none is kept
        self._warming = asyncio.create_task(warm_up())
        if threading.current_thread() is threading.main_thread():
            wind_down_on_signals(asyncio.get_running_loop())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        stopping.set()
        await shut_down(RELEASE_SECONDS)
        await send({"type": "lifespan.shutdown.complete"})


async def warm_up() -> None:
    """Load both engines in the background, a moment after the start: whoever asks before waits for it.

    What fails shows in /readyz too; the server goes on, since the other engine may well work.
    """
    await asyncio.sleep(WARM_UP_AFTER)
    engine, embedder = await asyncio.gather(asyncio.to_thread(get_engine), asyncio.to_thread(get_embedder))
    loading = (engine.warm_up(), embedder.warm_up())
    for failure in await asyncio.gather(*loading, return_exceptions=True):
        if failure is not None:
            logger.error("An engine could not be loaded.", exc_info=failure)
    gc.freeze()


def wind_down_on_signals(loop: asyncio.AbstractEventLoop) -> None:
    """Send those away who wait, before the server's own handler, which waits for all requests to end."""

    def chained(then: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
        def handle(signum: int, frame: FrameType | None) -> None:
            stopping.set()
            loop.call_soon_threadsafe(loop.run_in_executor, None, _send_away)
            then(signum, frame)

        return handle

    for number in (signal.SIGTERM, signal.SIGINT):
        then = signal.getsignal(number)
        if callable(then):
            signal.signal(number, chained(then))


def _send_away() -> None:
    try:
        returning(turn_away)
    except Exception:
        logger.exception("Those who wait in the queue could not be sent away.")

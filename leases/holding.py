"""Holding a lease while work is done: the one thing that callers use.

    async with ahold("lightweight-llm", owner, Turn(wait=60)) as held:
        async for token in model:
            held.activity()

Both forms wait in the queue if they may, acquire, keep the lease alive by heartbeats and release it on
every exit. `ahold` cancels the work when the lease is lost; synchronous work learns of it at its next
`activity()`. `take` does the first half only, for holders that are not in this process.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from django.db import DatabaseError

from leases import keeper, mutex, owners, refusals, rush
from leases.database import returning
from leases.exceptions import LeaseError, LeaseLost, ServiceBusy
from leases.held import Held
from leases.metrics import REFUSALS, WAIT_SECONDS
from leases.models import Outcome
from leases.request_id import carrying
from leases.request_thread import give_thread_back
from leases.status import public_id, state_of
from leases.turn import AT_ONCE, Turn
from leases.waiting import Waiting

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
G = TypeVar("G", bound=mutex.Grant | None)


@contextmanager
def hold(service_id: str, owner: str, *, wait: float | None = None) -> Iterator[Held]:
    """Hold the lease for the length of a `with` block of synchronous work.

    `wait` is how many seconds to queue for it, None for not at all. Raises ServiceBusy before the work,
    LeaseLost at the work's next `activity()` or at its end.
    """
    began = monotonic()
    with _refusal_noted(service_id, owner):
        held = _take(service_id, owner, wait)
    waited = monotonic() - began
    try:
        keeper.keep(held)
        _note_grant(held, waited)
        yield held
    finally:
        keeper.drop(held)
        lost = held.lost  # a heartbeat after the release would find no lease
        gone = _release(held)
    if (lost := lost or gone) is not None:
        raise lost


def _take(service_id: str, owner: str, wait: float | None) -> Held:
    taken_at = monotonic()
    if wait is None:
        return Held(mutex.acquire(service_id, owner), taken_at)
    if (grant := mutex.try_acquire(service_id, owner)) is not None:
        return Held(grant, taken_at)
    woken = threading.Event()
    waiting = Waiting(service_id, owner, woken.set)
    try:
        waiting.enter()
        while (left := taken_at + wait - monotonic()) > 0:
            woken.wait(left)
            woken.clear()
            claimed_at = monotonic()
            if (grant := waiting.claim()) is not None:
                return Held(grant, claimed_at)
        claimed_at = monotonic()
        if (grant := waiting.claim(anyway=True)) is not None:
            return Held(grant, claimed_at)
    except BaseException:
        waiting.leave()
        raise
    waiting.leave()
    raise refusals.wait_timeout(state_of(service_id), wait)


def _release(held: Held) -> LeaseLost | None:
    """Give the lease back; if it was no longer there to give, return how it had been lost."""
    ended_as = Outcome(held.lost.outcome) if held.lost else Outcome.RELEASED
    try:
        if mutex.release(held.grant, ended_as=ended_as):
            _note_end(held, ended_as)
            return None
        fate = mutex.fate(held.grant)
        _note_end(held, fate)
        return None if fate == Outcome.RELEASED else held.loss(fate)
    except DatabaseError:
        # The work is done and its answer stands; the lease goes by itself when its TTL is over.
        logger.exception("Could not release %s; it will expire.", held.grant.service_id)
        return None


class ahold:  # noqa: N801 - reads as the verb it is, beside hold()
    """Hold the lease for the length of an `async with` block.

    Raises ServiceBusy before the work. When the lease is lost the block is cancelled and LeaseLost
    comes out of it. Database work runs in this module's own threads, so neither a busy event loop's
    request threads nor a long transaction of the caller can starve a heartbeat.
    """

    def __init__(self, service_id: str, owner: str, turn: Turn = AT_ONCE) -> None:
        self._service_id = service_id
        self._owner = owner
        self._turn = turn

    async def __aenter__(self) -> Held:
        self._task = _this_task()
        self._cancelling = self._task.cancelling()
        began = monotonic()
        self._held = await take(self._service_id, self._owner, self._turn)
        _active[self] = self._task
        self._beating = asyncio.ensure_future(self._keep())
        started = {
            "sessionId": public_id(self._held.grant.session_id),
            "queuedMs": round((monotonic() - began) * 1000),
            **self._turn.about,
        }
        try:
            self._turn.tell("started", started)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self._held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beating.cancel()
        releasing = _in_thread(_release, self._held)
        cancelled = await _finish(releasing, seconds=max(self._held.until_expiry(), RELEASE_PATIENCE))
        del _active[self]
        lost = self._held.lost
        if lost is not None and self._task.uncancel() <= self._cancelling:
            # The cancellation was ours, not somebody else's: what it means is that the lease is lost.
            if error is not lost:
                raise lost from error
        elif cancelled is not None:
            raise cancelled
        elif error is None and releasing.done() and (gone := releasing.result()) is not None:
            raise gone

    async def _keep(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._held.until_beat())
                await self._beat()
        except LeaseLost as lost:
            self._held.lost = lost
            self._task.cancel()

    async def _beat(self) -> None:
        """One heartbeat in a thread; a database that hangs is a database that does not answer."""
        try:
            async with asyncio.timeout(max(self._held.until_expiry(), 0.05)):
                await _in_thread(self._held.beat)
        except TimeoutError:
            if not self._held.writing:
                raise self._held.overdue() from None


@contextmanager
def _refusal_noted(service_id: str, owner: str) -> Iterator[None]:
    try:
        yield
    except ServiceBusy as refusal:
        REFUSALS.labels(service_id, refusal.reason).inc()
        about = {"service": service_id, "owner": owners.shown(owner), "reason": refusal.reason}
        logger.info("refused", extra={"about": about})
        raise


def _note_grant(held: Held, waited: float) -> None:
    """`waited` in seconds."""
    WAIT_SECONDS.labels(held.grant.service_id).observe(waited)
    logger.info("acquired", extra={"about": {**_about(held), "ms": round(waited * 1000)}})


def _note_end(held: Held, ended_as: Outcome) -> None:
    about = {**_about(held), "ms": round((monotonic() - held.taken_at) * 1000)}
    logger.info(ended_as.value, extra={"about": about})


def _about(held: Held) -> dict[str, Any]:
    grant = held.grant
    return {
        "service": grant.service_id,
        "session": public_id(grant.session_id),
        "fencing_token": grant.fencing_token,
        "owner": owners.shown(grant.owner),
    }


RELEASE_PATIENCE = 1.0  # seconds for which an answer waits at least for its release

_active: dict[object, asyncio.Task[Any]] = {}  # who holds or waits, and the task in which
_errands: set[Future[None]] = set()  # what is still to be done for callers who have gone

# Lease statements take a millisecond; more threads than this would only queue at the database.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="lease")


async def take(service_id: str, owner: str, turn: Turn = AT_ONCE) -> Held:
    """Wait as long as `turn` allows and acquire the lease; to renew and to release it is the caller's affair.

    A caller who is cancelled meanwhile gets nothing and leaves nothing behind. Raises ServiceBusy,
    UnknownService and LeaseInTransaction.
    """
    caller = object()
    _active[caller] = _this_task()
    try:
        taken_at = monotonic()
        with _refusal_noted(service_id, owner):
            if turn.wait is None:
                held = Held(await _at_once(service_id, owner), taken_at)
            else:
                grant = await _granted(_in_thread(mutex.try_acquire, service_id, owner))
                held = Held(grant, taken_at) if grant is not None else await _queue(service_id, owner, turn)
        _note_grant(held, monotonic() - taken_at)
        return held
    finally:
        del _active[caller]


async def _at_once(service_id: str, owner: str) -> mutex.Grant:
    await rush.refuse(service_id, owner)
    try:
        return await _granted(_in_thread(mutex.acquire, service_id, owner))
    except ServiceBusy:
        rush.began(service_id)
        raise


async def _queue(service_id: str, owner: str, turn: Turn) -> Held:
    """Wait for the turn: in the queue, without a thread or a connection."""
    give_thread_back()
    wait = turn.wait or 0.0
    deadline = monotonic() + wait
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    waiting = Waiting(service_id, owner, lambda: _call(loop, woken.set))
    entering = _in_thread(waiting.enter)
    try:
        await asyncio.shield(entering)
        place: int | None = None
        while True:
            claimed_at = monotonic()
            timed_out = claimed_at >= deadline
            grant = await _granted(_in_thread(waiting.claim, anyway=timed_out))
            if grant is not None:
                return Held(grant, claimed_at)
            if timed_out:
                break
            if waiting.place != place:
                place = waiting.place
                seconds = waiting.estimate
                turn.tell(
                    "queued",
                    {"position": place, "estimatedWaitSeconds": seconds, "yours": waiting.yours},
                )
            await _woken(woken, deadline - claimed_at)
    except BaseException:
        # A caller who has gone does not wait for this; whatever is on its way has to arrive first.
        _in_background(partial(_abandon, waiting), after=entering)
        raise
    await asyncio.shield(_in_thread(waiting.leave))
    raise await _in_thread(lambda: refusals.wait_timeout(state_of(service_id), wait))


def give_back(grant: mutex.Grant) -> None:
    """Release a lease that its caller did not get to hear of, in the background and whatever happens."""
    _in_background(partial(_give_back, grant))


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None, "holding a lease needs a running task"  # noqa: S101 - true inside a coroutine
    return task


def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
    call = carrying(partial(returning, function, *args, **kwargs))
    return asyncio.get_running_loop().run_in_executor(_threads, call)


async def _finish(work: "asyncio.Future[T]", *, seconds: float) -> asyncio.CancelledError | None:
    """Wait for the work, at most so long, and return the cancellation that came meanwhile."""
    cancelled = None
    deadline = monotonic() + seconds
    while not work.done() and (left := deadline - monotonic()) > 0:
        try:
            await asyncio.wait({work}, timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
    if not work.done():
        logger.error("A lease is not released yet: the database does not answer. It will expire.")
    return cancelled


async def _granted(granting: "asyncio.Future[G]") -> G:
    """What was granted; to a caller who is cancelled meanwhile, nothing."""
    try:
        return await asyncio.shield(granting)
    except asyncio.CancelledError:
        # The statement may yet succeed after its caller has gone: give that lease back at once.
        _in_background(partial(_return, granting), after=granting)
        raise


def _return(granting: "asyncio.Future[G]") -> None:
    if not granting.cancelled() and granting.exception() is None:
        grant: mutex.Grant | None = granting.result()
        if grant is not None:
            _give_back(grant)


def _give_back(grant: mutex.Grant) -> None:
    try:
        mutex.release(grant)
    except DatabaseError:
        logger.exception("Could not release %s; it will expire.", grant.service_id)


def _abandon(waiting: Waiting) -> None:
    try:
        waiting.step_aside()
    except (DatabaseError, LeaseError):
        logger.exception("Could not leave the queue of %s; the ticket will expire.", waiting.service_id)


def _in_background(errand: Callable[[], None], *, after: "asyncio.Future[Any] | None" = None) -> None:
    """Run the errand in a thread, once `after` is done. Its caller has gone; `shut_down` waits for it."""
    done: Future[None] = Future()
    _errands.add(done)

    def run() -> None:
        try:
            returning(errand)
        finally:
            _errands.discard(done)
            done.set_result(None)

    if after is None:
        _threads.submit(carrying(run))
    else:
        after.add_done_callback(lambda _: _threads.submit(carrying(run)))


async def _woken(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
    event.clear()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
        loop.call_soon_threadsafe(function)


async def shut_down(seconds: float) -> None:
    """Cancel every hold and wait of this event loop and wait, at most so long, until all have released.

    For the end of a process that would otherwise be gone before its leases and its places are.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    tasks = {task for task in _active.values() if task.get_loop() is loop}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
    if errands := [asyncio.wrap_future(errand) for errand in list(_errands)]:
        await asyncio.wait(errands, timeout=max(deadline - loop.time(), 0.0))

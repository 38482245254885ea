"""What the processes of the queue's tests do: waiters to be killed, servers full of waiters, and writers."""

import asyncio
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from time import monotonic, sleep
from typing import Any, ParamSpec, TypeVar

from tests.faults.engine import use, use_async
from tests.faults.history import Operation, Recorder, recording
from tests.faults.workers import LLM

P = ParamSpec("P")
T = TypeVar("T")

# What each waiter of ten does. The others wait their turn once.
LEAVING, TIMING_OUT, ASKING_AGAIN = (3, 8), (4,), (0, 1)
SHORTEST_WAIT = 0.3  # of the first one that times out, while the lease is still held by somebody else


def wait_in_line(number: int, *, directory: str, port: int, work: float, **_: Any) -> None:
    """One waiter, a process of its own: queue for the lease and use the engine under it, once."""
    from leases.holding import hold

    Recorder(directory).watch_mutex()
    with hold(LLM, f"waiter {number}", wait=600) as held:
        use(port, held.grant.fencing_token, work)


class Counts:
    """What this process asks of the database, by what it is for, and how many waiters it wakes.

    A statement that nothing below accounts for is part of a hand-over: of releasing, or of claiming.
    """

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._doing = threading.local()

    def watch(self) -> None:
        from django.db.backends.utils import CursorWrapper

        from leases import holding, mutex, wakeups
        from leases.status import state_of
        from leases.waiting import Waiting

        woken: set[int] = set()
        execute, wake, claim = CursorWrapper.execute, wakeups.wake, Waiting.claim

        def counted(cursor: CursorWrapper, *args: Any, **kwargs: Any) -> Any:
            self.add(self._purpose())
            return execute(cursor, *args, **kwargs)

        def waking(ticket_id: int) -> None:
            if ticket_id in wakeups._sleepers:
                self.add("wake-ups")
                if ticket_id not in woken:
                    woken.add(ticket_id)
                    self.add("woken")
            wake(ticket_id)

        def claiming(waiting: Waiting, *, anyway: bool = False) -> mutex.Grant | None:
            if not anyway:
                return claim(waiting)
            with self.doing("leaving"):  # the last try of a caller whose time is over
                return claim(waiting, anyway=True)

        patches: list[tuple[Any, str, Callable[..., Any]]] = [
            (CursorWrapper, "execute", counted),
            (wakeups, "wake", waking),
            (Waiting, "claim", claiming),
            (Waiting, "enter", self._tagged("asking", Waiting.enter)),
            (Waiting, "leave", self._tagged("leaving", Waiting.leave)),
            (Waiting, "step_aside", self._tagged("leaving", Waiting.step_aside)),
            (mutex, "try_acquire", self._tagged("asking", mutex.try_acquire)),
            (mutex, "acquire", self._tagged("asking", mutex.acquire)),
            (holding, "state_of", self._tagged("leaving", state_of)),  # for the words of a refusal
        ]
        for target, name, function in patches:
            setattr(target, name, function)

    @contextmanager
    def doing(self, purpose: str) -> Iterator[None]:
        before = getattr(self._doing, "purpose", None)
        self._doing.purpose = before or purpose
        try:
            yield
        finally:
            self._doing.purpose = before

    def _tagged(self, purpose: str, function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def tagged(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.doing(purpose):
                return function(*args, **kwargs)

        return tagged

    def _purpose(self) -> str:
        if threading.current_thread().name == "lease queue":
            return "polling"
        return getattr(self._doing, "purpose", None) or "handing over"

    def add(self, what: str) -> None:
        with self._lock:
            self.of[what] += 1


def serve(number: int, *, directory: str, port: int, waiters: int, processes: int, **_: Any) -> None:
    """One server-like process: its share of the waiters as coroutines, and a newcomer who barges."""
    recorder, counts = Recorder(directory), Counts()
    recorder.watch_mutex()
    counts.watch()
    began = monotonic()
    asyncio.run(_serve(range(number, waiters, processes), f"newcomer {number}", recorder, port, counts))
    counts.of["milliseconds"] = round((monotonic() - began) * 1000)
    Path(directory, f"{number}.json").write_text(json.dumps(counts.of))


async def _serve(numbers: range, newcomer: str, recorder: Recorder, port: int, counts: Counts) -> None:
    done = asyncio.Event()
    barging = asyncio.create_task(_barge(newcomer, done, counts))
    try:
        async with asyncio.TaskGroup() as group:
            for number in numbers:
                group.create_task(_take_turns(number, recorder, port))
    finally:
        done.set()
        await barging


async def _take_turns(number: int, recorder: Recorder, port: int) -> None:
    """One waiter of a server: it may leave, run out of time, or ask again as soon as it has released."""
    kind, owner = number % 10, f"waiter {number}"
    if kind in LEAVING:
        await _wait_and_leave(owner, recorder, port, at_once=kind == LEAVING[0])
    elif kind in TIMING_OUT:
        await _wait_briefly(owner, recorder, port, SHORTEST_WAIT if number < 10 else random.uniform(0.3, 1.5))
    else:
        for _turn in range(2 if kind in ASKING_AGAIN else 1):
            await _use(owner, port, wait=600)


async def _use(owner: str, port: int, *, wait: float, tell: Callable[..., None] | None = None) -> None:
    from leases.holding import ahold
    from leases.turn import Turn

    turn = Turn(wait=wait) if tell is None else Turn(wait=wait, tell=tell)
    async with ahold(LLM, owner, turn) as held:
        await use_async(port, held.grant.fencing_token, 0.001)


async def _wait_and_leave(owner: str, recorder: Recorder, port: int, *, at_once: bool) -> None:
    """Leave as soon as a place is known, or further on in the queue. Whoever is served before stays."""
    leaving_at: int | None = None

    def tell(event: str, data: dict[str, Any]) -> None:
        nonlocal leaving_at
        if event != "queued" or (position := data["position"]) is None:
            return
        if leaving_at is None:
            leaving_at = position if at_once else random.randint(1, position)
        if position <= leaving_at and not gone.invoked:
            gone.invoked = monotonic()
            task.cancel()

    gone = Operation(os.getpid(), "gone", 0.0, owner=owner)
    task = asyncio.create_task(_use(owner, port, wait=600, tell=tell))
    with suppress(asyncio.CancelledError):
        await task
    if task.cancelled():
        gone.returned, gone.ok = monotonic(), True
        recorder.write(gone)


async def _wait_briefly(owner: str, recorder: Recorder, port: int, wait: float) -> None:
    """Wait no longer than that. Until its time is over, the caller certainly waits."""
    from leases.exceptions import ServiceBusy

    began = monotonic()
    try:
        await _use(owner, port, wait=wait)
    except ServiceBusy as busy:
        assert busy.reason == "wait_timeout", busy  # noqa: PT017 - any other refusal is a failure
        recorder.write(Operation(os.getpid(), "gone", began + wait, monotonic(), ok=True, owner=owner))


async def _barge(owner: str, done: asyncio.Event, counts: Counts) -> None:
    """A newcomer who asks again and again without queueing."""
    while not done.is_set():
        await asyncio.to_thread(_try_once, owner, counts)
        await asyncio.sleep(0.01)


def _try_once(owner: str, counts: Counts) -> None:
    from django.db import connection

    from leases import mutex

    counts.add("newcomers' tries")
    with counts.doing("barging"):
        if (grant := mutex.try_acquire(LLM, owner)) is not None:
            mutex.release(grant)
        connection.close()


def hammer(number: int, *, directory: str, seconds: float, **_: Any) -> None:
    """One writer of many: every verb, in a random order, until the time is over. The first is an operator.

    What a busy service answers is expected; any other exception is written down as an `error`.
    """
    from django.db import connection

    from leases.exceptions import LeaseLost, ServiceBusy

    recorder = Recorder(directory)
    recorder.watch_mutex()
    verbs = [_hold_at_once, _hold_in_turn, _queue_and_leave]
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        verb = _force if number == 0 and random.random() < 0.2 else random.choice(verbs)
        with (
            suppress(ServiceBusy, LeaseLost, Exception),
            recording(Operation(os.getpid(), verb.__name__.lstrip("_"), 0.0), recorder) as operation,
        ):
            with suppress(ServiceBusy, LeaseLost):
                verb(f"writer {number}")
            operation.ok = True
        connection.close()
        sleep(random.random() * 0.002)


def _hold_at_once(owner: str) -> None:
    from leases.holding import hold

    with hold(LLM, owner) as held:
        held.beat()
        held.activity()


def _hold_in_turn(owner: str) -> None:
    from leases.holding import hold

    with hold(LLM, owner, wait=random.random() * 0.3) as held:
        held.beat()
        with held.fenced():
            pass


def _queue_and_leave(owner: str) -> None:
    from uuid import uuid4

    from leases import mutex

    ticket = mutex.enqueue(LLM, owner, uuid4().hex)
    mutex.advance(LLM)
    mutex.keep([ticket.waiter])
    if (grant := mutex.claim(ticket)) is not None:
        mutex.renew(grant)
        mutex.release(grant)
    else:
        random.choice([mutex.leave, mutex.step_aside])(ticket)


def _force(owner: str) -> None:
    from leases import mutex
    from leases.models import Lease

    session_id = Lease.objects.get(service=LLM).session_id
    if session_id is not None:
        mutex.force_release(LLM, session_id, by=owner, reason="the operator's turn")

"""A caller may be cancelled at every await and at every statement of `ahold`, and leaves nothing behind."""

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial, wraps
from itertools import combinations, count, pairwise
from time import monotonic
from typing import Any, TypeVar

import pytest
from pytest_django import Settings

from leases import holding, mutex, waiting, wakeups
from leases.exceptions import LeaseLost, ServiceBusy
from leases.holding import ahold, give_back, take
from leases.models import Lease, Ticket
from leases.turn import Turn
from tests.database import query
from tests.faults.conftest import Figure
from tests.faults.workers import LLM

VERBS = (
    *("acquire", "try_acquire", "enqueue", "advance", "places", "claim", "renew", "release", "fate"),
    *("leave", "step_aside"),
)
DEADLINE = 3.0  # seconds for what must come; an offer would hide a leak after five, an expiry after sixty
THREADS = holding._threads._max_workers  # that run the statements of `ahold`
MOST_THREADS = THREADS + 2  # and one that looks after the queue, one that listens
BEATS = 2

T = TypeVar("T")
Moment = tuple[str, int]
"""An await of the caller (0 is before the first), or what becomes of its work in threads, by number: it is
`sent` while all threads are busy, or a statement in it is about to `begin` or at its `end`."""


@pytest.fixture(autouse=True)
def unforgiving(leases: None, settings: Settings) -> Iterator[None]:
    """Nothing expires while a test looks: what is left behind stays and is seen. Heartbeats are frequent."""
    settings.LEASE_TTL, settings.LEASE_HEARTBEAT, settings.LEASE_IDLE_TIMEOUT = 60.0, 0.02, 60.0
    gc.freeze()  # what is there before need not be looked through after each trial
    yield
    gc.unfreeze()
    for ghost in waiting._room().everybody():
        ghost.leave()  # a leak that was found must not spoil the next test


class Stepped:
    """The same work; `suspended` is called with the number of each await at which it is suspended."""

    def __init__(self, work: Coroutine[Any, Any, None], suspended: Callable[[int], object]) -> None:
        self._work = work
        self._suspended = suspended

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        go_on: Callable[[], Any] = partial(next, steps)
        for number in count(1):
            try:
                awaited = go_on()
            except StopIteration:
                return
            self._suspended(number)
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 - it is for the work to deal with
                go_on = partial(steps.throw, error)
            else:
                go_on = partial(next, steps)


@dataclass
class Trial:
    """One caller, cancelled at the given moments; those that came while it ran are `reached`."""

    owner: str
    moments: frozenset[Moment]
    reached: set[Moment] = field(default_factory=set)
    rival: mutex.Grant | None = None
    beaten: asyncio.Event = field(default_factory=asyncio.Event)
    chores: "list[asyncio.Future[Any]]" = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _sent: "Iterator[int]" = field(default_factory=partial(count, 1))
    _statements: "Iterator[int]" = field(default_factory=partial(count, 1))
    _beats: "Iterator[int]" = field(default_factory=partial(count, 1))

    async def run(self, work: "Work", patch: pytest.MonkeyPatch) -> None:
        """The whole life of the caller, and whatever else it needs to come to its end."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self.complaints.append(str(context)))
        self._hook(patch)
        self._task = asyncio.ensure_future(self._stepped(work))
        self._cancel(("await", 0))
        done, _ = await asyncio.wait({self._task}, timeout=10)
        if not done:
            self.complaints.append("the caller hangs")
        elif self._task.cancelled() != bool(self.reached):
            self.complaints.append(f"cancelled at {self.reached}, the caller ended as {self._task!r}")
        elif not self._task.cancelled() and (error := self._task.exception()) is not None:
            self.complaints.append(f"the caller failed: {error!r}")
        if self.chores:
            await asyncio.wait(self.chores)
        if self.rival is not None:
            await query(mutex.release, self.rival)

    async def _stepped(self, work: "Work") -> None:
        await Stepped(work(self), lambda number: self._cancel(("await", number)))

    def release_rival(self, event: str, data: dict[str, Any]) -> None:
        """As soon as the caller stands in the queue."""
        if event == "queued" and self.rival is not None:
            self.chores.append(asyncio.ensure_future(query(mutex.release, self.rival)))

    def _cancel(self, moment: Moment) -> None:
        if moment in self.moments and self._task.cancel():
            self.reached.add(moment)

    def _hook(self, patch: pytest.MonkeyPatch) -> None:
        def hooked(name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(verb)
            def call(*args: Any, **kwargs: Any) -> Any:
                if not threading.current_thread().name.startswith("lease_"):
                    return verb(*args, **kwargs)  # not a statement of `ahold`
                number = next(self._statements)
                self._cancel_from_thread(("begin", number))
                result = verb(*args, **kwargs)
                self._cancel_from_thread(("end", number))
                if name == "renew" and next(self._beats) == BEATS:
                    self._loop.call_soon_threadsafe(self.beaten.set)
                return result

            return call

        for name in VERBS:
            patch.setattr(mutex, name, hooked(name, getattr(mutex, name)))
        patch.setattr(holding, "_threads", BusyThreads(holding._threads, self))

    def must_wait(self) -> bool:
        """Whether the work that is sent now finds no thread until the caller has been cancelled."""
        if (moment := ("sent", next(self._sent))) not in self.moments:
            return False
        self._loop.call_soon(self._cancel, moment)
        return True

    def later(self, function: Callable[[], object], steps: int = 10) -> None:
        """Call it when the event loop has dealt with a cancellation."""
        if steps:
            self._loop.call_soon(self.later, function, steps - 1)
        else:
            function()

    def _cancel_from_thread(self, moment: Moment) -> None:
        """Come back when the event loop has dealt with the cancellation."""
        if moment not in self.moments:
            return
        dealt_with = threading.Event()

        def cancel() -> None:
            self._cancel(moment)
            self.later(dealt_with.set)

        self._loop.call_soon_threadsafe(cancel)
        assert dealt_with.wait(10)


class BusyThreads(Executor):
    """The threads of `ahold`, busy with others when the trial says so: what is sent then waits its turn."""

    def __init__(self, threads: Executor, trial: Trial) -> None:
        self._threads = threads
        self._trial = trial

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        call = partial(function, *args, **kwargs)
        if not self._trial.must_wait():
            return self._threads.submit(call)
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - as an executor does
                future.set_exception(error)

        self._trial.later(partial(self._threads.submit, run))
        return future


Work = Callable[[Trial], Coroutine[Any, Any, None]]


async def at_once(trial: Trial) -> None:
    """Acquire, work, release."""
    async with ahold(LLM, trial.owner):
        await asyncio.sleep(0)


async def in_turn(trial: Trial) -> None:
    """Enter the queue behind a rival, who then releases; wait, claim, work, release."""
    async with ahold(LLM, trial.owner, Turn(wait=60, tell=trial.release_rival)):
        await asyncio.sleep(0)


async def in_vain(trial: Trial) -> None:
    """Enter the queue behind a rival, and leave it when the time is over."""
    with pytest.raises(ServiceBusy):
        async with ahold(LLM, trial.owner, Turn(wait=0.03)):
            pytest.fail("two holders")


async def with_heartbeats(trial: Trial) -> None:
    """Acquire, work for some heartbeats, release."""
    async with ahold(LLM, trial.owner):
        await trial.beaten.wait()


async def losing_it(trial: Trial) -> None:
    """Acquire, and have the lease taken away by an operator."""

    def force() -> None:
        mutex.force_release(LLM, held.grant.session_id, by="ops", reason="test")

    with pytest.raises(LeaseLost):
        async with ahold(LLM, trial.owner) as held:
            trial.chores.append(asyncio.ensure_future(query(force)))
            await asyncio.Event().wait()


async def taking_it(trial: Trial) -> None:
    """Enter the queue behind a rival, and take the lease without holding it here."""
    give_back((await take(LLM, trial.owner, Turn(wait=60, tell=trial.release_rival))).grant)


async def carelessly(trial: Trial) -> None:
    """The control: what `ahold` must not be."""
    grant = await holding._in_thread(mutex.acquire, LLM, trial.owner)
    try:
        await asyncio.sleep(0)
    finally:
        await holding._in_thread(mutex.release, grant)


def in_database(owner: str) -> list[str]:
    leases = Lease.objects.live().filter(owner=owner).count()
    tickets = Ticket.objects.live().filter(owner=owner).count()
    return ["a live lease"] * leases + ["a live ticket"] * tickets


def in_process() -> list[object]:
    """Whatever this process keeps of callers: their tasks, their places, their wake-ups, their holds."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return [*tasks, *waiting._room().everybody(), *wakeups._sleepers.values(), *holding._active]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lease")]


async def settled() -> None:
    """Whatever was on its way to a thread has arrived there, and what follows from that, and so on."""
    for _ in range(3):
        barrier = threading.Barrier(THREADS + 1)
        for _ in range(THREADS):
            holding._threads.submit(barrier.wait, 10)
        await asyncio.to_thread(barrier.wait, 10)
        await asyncio.sleep(0)


async def left_behind(owner: str, before: list[object], seconds: float) -> list[str]:
    """What is still there of the caller when its time to go is over; then a stranger must be served."""
    deadline = monotonic() + seconds
    await settled()
    while True:
        found = [
            *await query(in_database, owner),
            *(repr(kept) for kept in in_process() if kept not in before),
            *threads()[MOST_THREADS:],
        ]
        if not found:
            break
        if monotonic() > deadline:
            return found
        await asyncio.sleep(0.001)
    stranger = await query(mutex.try_acquire, LLM, "stranger")
    if stranger is None:
        return ["the lease is not free for a stranger"]
    await query(mutex.release, stranger)
    return []


class Series:
    """Trials of one kind of work, and what they left behind."""

    def __init__(self, work: Work, *, rival: bool = False, seconds: float = DEADLINE) -> None:
        self._work = work
        self._rival = rival
        self._seconds = seconds
        self._callers = count(1)
        self.cancelled = 0
        self.leaks: list[str] = []
        self.slowest = 0.0

    async def cancel_at(self, *moments: Moment) -> bool:
        """Try it once; whether all of the moments came. A leak spoils what would be tried after it."""
        if self.leaks:
            return False
        trial = Trial(f"caller {next(self._callers)}", frozenset(moments))
        before = in_process()
        if self._rival:
            trial.rival = await query(mutex.acquire, LLM, "rival")
        with pytest.MonkeyPatch.context() as patch:
            await trial.run(self._work, patch)
            ended = monotonic()
            found = await left_behind(trial.owner, before, self._seconds)
        self.slowest = max(self.slowest, monotonic() - ended)
        gc.collect()
        self.leaks += [f"cancelled at {sorted(moments)}: {what}" for what in [*found, *trial.complaints]]
        self.cancelled += bool(trial.reached)
        return trial.reached == set(moments)

    async def cancel_at_each(self, moments: Iterable[Moment]) -> list[Moment]:
        """One trial for each moment, until one does not come; those that came."""
        came = []
        for moment in moments:
            if not await self.cancel_at(moment):
                break
            came.append(moment)
        return came


async def everywhere(work: Work, figure: Figure, full: bool, *, rival: bool = False) -> None:
    series = Series(work, rival=rival)
    await series.cancel_at()
    assert series.leaks == []
    awaits = await series.cancel_at_each(("await", number) for number in count())
    in_threads = [
        moment
        for kind in ("sent", "begin", "end")
        for moment in await series.cancel_at_each((kind, number) for number in count(1))
    ]
    moments = [*awaits, *in_threads]
    for pair in combinations(moments, 2) if full else pairwise(awaits):
        await series.cancel_at(*pair)
    figure(
        f"cancelled {series.cancelled} times, at {len(awaits)} awaits and {len(in_threads)} moments of "
        f"work in threads, once and twice: {len(series.leaks)} leaks; gone after "
        f"{series.slowest:.3f} s at most"
    )
    assert series.leaks == []
    assert len(awaits) > 2
    assert len(in_threads) > 2


async def test_a_caller_who_is_cancelled_leaves_nothing_behind(figure: Figure, full: bool) -> None:
    await everywhere(at_once, figure, full)


async def test_nor_does_one_who_waits(figure: Figure, full: bool) -> None:
    await everywhere(in_turn, figure, full, rival=True)


async def test_nor_one_whose_time_runs_out(figure: Figure, full: bool) -> None:
    await everywhere(in_vain, figure, full, rival=True)


async def test_nor_one_who_takes_it_away(figure: Figure, full: bool) -> None:
    await everywhere(taking_it, figure, full, rival=True)


async def test_nor_one_whose_heartbeat_is_on_its_way(figure: Figure, full: bool) -> None:
    await everywhere(with_heartbeats, figure, full)


async def test_nor_one_who_loses_the_lease_at_the_same_time(figure: Figure, full: bool) -> None:
    await everywhere(losing_it, figure, full)


async def test_a_careless_caller_is_caught() -> None:
    series = Series(carelessly, seconds=0.3)
    await series.cancel_at()
    assert series.leaks == []
    await series.cancel_at(("begin", 1))
    assert len(series.leaks) == 1
    assert series.leaks[0].endswith("a live lease")

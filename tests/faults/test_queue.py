"""The queue under faults: waiters that die, leave, run out of time, and callers who try to overtake."""

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from select import select
from signal import SIGKILL
from time import monotonic, sleep

import pytest
from pytest_django import Settings

from leases import mutex
from leases.models import Hold, Lease, Ticket
from tests.database import start_python
from tests.faults.checkers import exclusion, grants, order
from tests.faults.conftest import FAST, Figure
from tests.faults.crowd import Crowd, crowd
from tests.faults.engine import running_engine
from tests.faults.history import Operation, named, read
from tests.faults.queueing import ASKING_AGAIN, LEAVING, TIMING_OUT
from tests.faults.workers import LLM

pytestmark = pytest.mark.usefixtures("leases")

SEED = 50
TTL = float(FAST["LEASE_TTL"])
ROOM = 2.0  # seconds: a poll, and processes that share two cores with others
HAND_OVER = 0.1  # seconds for a whole turn of a live waiter, on such a machine
PROCESSES = 4


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what must come."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, "what must come did not come"
        sleep(0.01)


@contextmanager
def holder() -> Iterator[Callable[[], float]]:
    """A process that holds the lease; call what is yielded to have it released, and to know when."""
    process = start_python("tests.leases.holder", "holder", **FAST)

    def release() -> float:
        told = monotonic()
        process.communicate("\n", timeout=30)
        return told

    with process:
        try:
            assert process.stdout is not None
            assert int(process.stdout.readline()) > 0
            yield release
        finally:
            process.kill()


@dataclass
class Line:
    """Waiters in the order of their tickets, and what became of them."""

    numbers: list[int]
    dead: list[int]
    released: float
    codes: list[int]
    history: list[Operation]
    violations: list[str]
    used: set[int]

    @property
    def claims(self) -> list[float]:
        """Seconds from the holder's release to each grant that a live waiter took up."""
        claims = [operation for operation in named(self.history, "claim") if operation.ok]
        return sorted((claim.returned or 0.0) - self.released for claim in claims)

    @property
    def served(self) -> set[str]:
        return {operation.owner for operation in named(self.history, "claim") if operation.ok}


def line_of(
    directory: Path, waiters: int, choose: Callable[[list[int]], list[int]], *, kept: bool = False
) -> Line:
    """Let processes queue behind a holder, kill those whom `choose` picks of them, and release.

    With `kept`, somebody keeps the tickets of the dead alive.
    """
    with (
        running_engine() as engine,
        holder() as release,
        crowd(
            "tests.faults.queueing:wait_in_line",
            waiters,
            environment=FAST,
            directory=str(directory),
            port=engine.port,
            work=0.005,
        ) as group,
    ):
        group.go()
        until(lambda: Ticket.objects.live().count() == waiters)
        tickets = list(Ticket.objects.order_by("id"))
        numbers = [int(ticket.owner.split()[1]) for ticket in tickets]
        dead = choose(numbers)
        kill(group, dead)
        released = release()
        if kept:
            left_behind = [ticket.waiter for ticket in tickets if int(ticket.owner.split()[1]) in dead]

            def somebody_is_served() -> bool:
                mutex.keep(left_behind)
                return bool(engine.calls)

            until(somebody_is_served)
        codes = group.wait(120)
    history = read(directory)
    return Line(
        numbers,
        dead,
        released,
        codes,
        history,
        exclusion(engine.calls) + grants(history) + order(history),
        {call.token for call in engine.calls},
    )


def kill(group: Crowd, numbers: Sequence[int]) -> None:
    """All at once, and come back when they are dead."""
    deaths = [os.pidfd_open(group.pids[number]) for number in numbers]
    for number in numbers:
        os.kill(group.pids[number], SIGKILL)
    for death in deaths:
        ended, _, _ = select([death], [], [], 30)
        assert ended, "a killed process lives"
        os.close(death)


def test_however_many_waiters_are_killed_it_costs_one_ttl_in_all(
    tmp_path: Path, figure: Figure, full: bool
) -> None:
    waiters, others = (50, 20) if full else (12, 5)
    chance = random.Random(SEED)
    line = line_of(tmp_path, waiters, lambda numbers: [numbers[0], *chance.sample(numbers[1:], others)])
    killed, alive = len(line.dead), waiters - len(line.dead)
    lost_offers = Hold.objects.filter(outcome="unclaimed").count()
    figure(
        f"{waiters} waiters, {killed} killed, seed {SEED}: {line.claims[0]:.2f} s from the release to the "
        f"first live grant, {line.claims[-1]:.2f} s to the last, TTL {TTL:g} s; {lost_offers} offers to the "
        f"dead, {len(line.violations)} violations"
    )
    assert line.violations == []
    assert [line.codes[number] for number in line.dead] == [-SIGKILL] * killed
    assert sorted(line.codes) == [-SIGKILL] * killed + [0] * alive
    assert line.served == {f"waiter {number}" for number in line.numbers if number not in line.dead}
    assert len(line.claims) == alive
    assert len(line.used) == alive
    assert set(Hold.objects.exclude(outcome="unclaimed").values_list("owner", flat=True)) == {
        "holder",
        *line.served,
    }
    # One TTL each would be several times as much as this.
    most = TTL + ROOM
    assert most + alive * HAND_OVER < killed * TTL * 0.75
    assert line.claims[0] < most
    assert line.claims[-1] < most + alive * HAND_OVER


def test_the_dead_would_cost_one_ttl_each_if_their_tickets_lived(
    tmp_path: Path, figure: Figure, settings: Settings
) -> None:
    """The control: the same measurement where somebody keeps the tickets of the dead alive."""
    settings.LEASE_TTL = TTL
    line = line_of(tmp_path, 4, lambda numbers: numbers[:3], kept=True)
    figure(f"3 of 4 waiters killed, their tickets kept: {line.claims[0]:.2f} s to the first live grant")
    assert line.violations == []
    assert line.claims[0] > TTL + ROOM
    assert Hold.objects.filter(outcome="unclaimed").count() == 3


def barging(history: Sequence[Operation]) -> list[str]:
    """Nobody who did not queue is granted the lease while a live ticket waits for it.

    A ticket certainly waits from the moment that its enqueue returned until its caller claims or goes.
    """
    stints: list[tuple[str, float, float]] = []
    for ticket in named(history, "enqueue"):
        ends = [
            operation.invoked
            for operation in named(history, "claim", "gone")
            if operation.ok
            and (operation.process, operation.owner) == (ticket.process, ticket.owner)
            and operation.invoked > ticket.invoked
        ]
        if ticket.ok and ticket.returned is not None and ends:
            stints.append((ticket.owner, ticket.returned, min(ends)))
    return [
        f"{grant.owner} was granted token {grant.token} while {owner} waited"
        for grant in named(history, "try_acquire")
        for owner, begun, ended in stints
        if grant.ok and begun < grant.invoked and grant.returned is not None and grant.returned < ended
    ]


@dataclass
class Queue:
    """What happened in one queue; figures are per hand-over, that is per grant that was taken up."""

    history: list[Operation]
    counts: Counter[str]
    used: list[int]
    violations: list[str]
    offers: int

    def owners(self, name: str) -> list[str]:
        return [operation.owner for operation in named(self.history, name) if operation.ok]

    @property
    def hand_overs(self) -> int:
        return len(self.owners("claim"))

    @property
    def statements(self) -> float:
        return self.counts["handing over"] / self.hand_overs

    @property
    def tries(self) -> float:
        """Claims that were tried while their callers' time was not over."""
        late = [operation for operation in named(self.history, "claim") if not operation.ok]
        return 1 + max(len(late) - len(self.owners("gone")), 0) / self.hand_overs

    @property
    def wake_ups(self) -> float:
        return self.counts["wake-ups"] / self.hand_overs

    @property
    def polling(self) -> float:
        """Statements a second and process."""
        return self.counts["polling"] / (self.counts["milliseconds"] / 1000)


def queue_of(directory: Path, waiters: int) -> Queue:
    """Servers full of waiters: some leave, some run out of time, newcomers barge, releasers ask again."""
    directory.mkdir()
    before = Lease.objects.get(service=LLM).fencing_token
    with (
        running_engine() as engine,
        holder() as release,
        crowd(
            "tests.faults.queueing:serve",
            PROCESSES,
            environment=FAST,
            directory=str(directory),
            port=engine.port,
            waiters=waiters,
            processes=PROCESSES,
            seed=SEED,
        ) as group,
    ):
        group.go()

        def everybody_has_come() -> bool:
            history = read(directory)
            gone = {operation.owner for operation in named(history, "gone")}
            return len(named(history, "enqueue")) >= waiters and {"waiter 3", "waiter 4"} <= gone

        until(everybody_has_come)
        release()
        codes = group.wait(300)
    assert codes == [0] * PROCESSES
    history = read(directory)
    counts: Counter[str] = Counter()
    for file in directory.glob("*.json"):
        counts.update(json.loads(file.read_text()))
    taken = sum(operation.ok for operation in named(history, "try_acquire"))
    return Queue(
        history,
        counts,
        [call.token for call in engine.calls],
        exclusion(engine.calls) + grants(history) + order(history) + barging(history),
        Lease.objects.get(service=LLM).fencing_token - before - taken - 1,
    )


def check(queue: Queue, waiters: int, figure: Figure) -> None:
    gone = queue.owners("gone")
    left = sum(int(owner.split()[1]) % 10 in LEAVING for owner in gone)
    owner_of = {
        operation.token: operation.owner for operation in named(queue.history, "claim", "try_acquire")
    }
    figure(
        f"{waiters} waiters, {left} left, {len(gone) - left} timed out, seed {SEED}: "
        f"{queue.hand_overs} hand-overs of {queue.statements:.2f} statements, {queue.wake_ups:.2f} wake-ups "
        f"and {queue.tries:.2f} tries each; the poll {queue.polling:.0f} statements/s a process; "
        f"{len(queue.violations)} violations"
    )
    assert queue.violations == []
    assert {owner_of[token] for token in queue.used}.isdisjoint(gone), "a caller who had gone was served"
    served = Counter(owner_of[token] for token in queue.used)
    staying = Counter(
        {
            f"waiter {number}": 2 if number % 10 in ASKING_AGAIN else 1
            for number in range(waiters)
            if number % 10 not in (*LEAVING, *TIMING_OUT)
        }
    )
    assert staying <= served
    assert {"waiter 3", "waiter 4"} <= set(gone)
    assert queue.counts["newcomers' tries"] > waiters
    assert 0 < queue.counts["woken"] <= queue.offers, "an offer woke more than the one whose it is"


def test_a_long_queue_is_as_fair_and_as_cheap_as_a_short_one(
    tmp_path: Path, figure: Figure, full: bool
) -> None:
    few, many = (20, 200) if full else (5, 30)
    small = queue_of(tmp_path / "small", few)
    check(small, few, figure)
    large = queue_of(tmp_path / "large", many)
    check(large, many, figure)
    # A caller who leaves at the very moment of an offer costs a try: hence not to the last digit.
    assert large.statements <= small.statements + 0.5
    assert large.wake_ups <= max(small.wake_ups, 1) + 0.25
    assert large.tries <= small.tries + 0.25


def test_the_check_for_overtaking_newcomers_can_fail() -> None:
    waiting = [
        Operation(1, "enqueue", 1, 2, ok=True, owner="ann", ticket=1),
        Operation(1, "claim", 8, 9, ok=True, owner="ann", token=3),
    ]
    early = Operation(2, "try_acquire", 3, 4, ok=True, owner="bob", token=2)
    at_the_end = Operation(2, "try_acquire", 7, 8.5, ok=True, owner="bob", token=2)
    assert len(barging([*waiting, early])) == 1
    assert barging([*waiting, at_the_end]) == []
    assert barging([*waiting, Operation(1, "gone", 2.5, 2.6, ok=True, owner="ann"), early]) == []

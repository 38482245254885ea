"""Holders that are killed, holders that are stopped, and callers with a transaction open."""

import os
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP
from time import monotonic, sleep
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from pytest_django import Settings

from leases import mutex
from leases.exceptions import LeaseInTransaction
from leases.models import Hold, Lease, Ticket
from leases.status import state_of
from leases.waiting import Waiting
from tests.database import database_url
from tests.faults.checkers import GRANTS, exclusion, grants, order
from tests.faults.conftest import FAST, Figure
from tests.faults.crowd import crowd
from tests.faults.engine import Call, running_engine
from tests.faults.history import Operation, named, read
from tests.faults.holders import script

pytestmark = pytest.mark.usefixtures("leases")

LLM, VECTORS = "lightweight-llm", "vector-convert"
TTL = float(FAST["LEASE_TTL"])
SEED = 21
TICK = 0.002
"""SQLite counts whole milliseconds, and cuts off what is beyond; both ends of an interval have that error."""


def soon(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait for what must come."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, f"{what} did not come in {seconds:.0f} s"
        sleep(0.005)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[round(share * (len(values) - 1))]


def last_sign(history: Sequence[Operation], process: int, before: float) -> Operation:
    """The last statement by which this process is known to have kept its lease."""
    return [
        operation
        for operation in named(history, *GRANTS, "renew")
        if operation.process == process
        and operation.ok
        and operation.returned is not None
        and operation.returned < before
    ][-1]


def too_early(history: Sequence[Operation], ends: dict[int, float], ttl: float) -> list[str]:
    """Leases that were handed over before they can have expired; `ends` says when which token's holder died.

    A lease lives for a TTL from a moment between the beginning and the end of its last heartbeat. A
    hand-over that began before that was the holder's own: its answer may come after the claim.
    """
    granted = {operation.token: operation for operation in named(history, *GRANTS) if operation.ok}
    handed = [operation for operation in named(history, "advance") if operation.ok]
    found = []
    for token, died in ends.items():
        sign = last_sign(history, granted[token].process, died)
        expires = sign.invoked + ttl - TICK
        later = [grant for other, grant in granted.items() if other is not None and other > token]
        found += [
            f"token {token} was followed {expires - next_one.returned:.4f} s too early"
            for next_one in handed + later
            if next_one.returned is not None
            and sign.invoked < next_one.invoked
            and next_one.returned < expires
        ]
    return found


def test_a_killed_holder_is_followed_when_its_lease_expires(
    tmp_path: Path, figure: Figure, full: bool
) -> None:
    kills = 50 if full else 3
    delays = random.Random(SEED)
    killed: dict[int, float] = {}
    with (
        running_engine() as engine,
        crowd(
            "tests.faults.holders:hold_until_killed",
            kills + 1,
            environment=FAST,
            directory=str(tmp_path),
            port=engine.port,
            seed=SEED,
        ) as group,
    ):

        def holder(turn: int) -> tuple[Call, int]:
            """The engine's call in this turn, and the process that it comes from."""
            soon(lambda: len(engine.calls) > turn, "the next grant")
            call = engine.calls[turn]
            processes = [
                grant.process for grant in named(read(tmp_path), *GRANTS) if grant.token == call.token
            ]
            assert len(processes) == 1
            return call, processes[0]

        group.go()
        soon(lambda: state_of(LLM).queue_length == kills, "the queue")
        for turn in range(kills):
            call, pid = holder(turn)
            sleep(delays.uniform(0.0, 1.2))  # at any moment between two heartbeats
            killed[call.token] = monotonic()
            os.kill(pid, SIGKILL)
        os.kill(holder(kills)[1], SIGINT)
        codes = group.wait(60)
    assert sorted(codes) == [-SIGKILL] * kills + [0]
    history = read(tmp_path)
    granted = {operation.token: operation for operation in named(history, *GRANTS) if operation.ok}
    waited = []
    for token, moment in killed.items():
        following = granted[min(other for other in granted if other is not None and other > token)]
        assert following.returned is not None
        waited.append(following.returned - moment)
    violations = exclusion(engine.calls) + grants(history) + order(history) + too_early(history, killed, TTL)
    figure(
        f"{kills} holders killed, TTL {TTL:.0f} s, seed {SEED}, seconds from the kill to the next grant: "
        f"p50 {percentile(waited, 0.5):.2f}, p99 {percentile(waited, 0.99):.2f}, max {max(waited):.2f}; "
        f"{len(violations)} violations"
    )
    assert violations == []
    assert max(waited) <= TTL + 1, "a TTL, and a second for a busy machine"
    outcomes = list(Hold.objects.order_by("fencing_token").values_list("outcome", flat=True))
    assert outcomes == ["lost"] * kills + ["released"]


def test_the_check_for_early_grants_can_fail() -> None:
    def operation(process: int, name: str, invoked: float, token: int | None = None) -> Operation:
        return Operation(
            process, name, invoked, invoked + 0.01, ok=True, owner=f"process {process}", token=token
        )

    history = [operation(1, "try_acquire", 0.0, 1), operation(1, "renew", 0.5)]
    in_time = [operation(2, "advance", 2.5), operation(2, "claim", 2.6, 2)]
    early = [operation(2, "advance", 2.4), operation(2, "claim", 2.6, 2)]
    taken = [operation(2, "try_acquire", 2.4, 2)]
    assert too_early([*history, *in_time], {1: 0.9}, TTL) == []
    assert len(too_early([*history, *early], {1: 0.9}, TTL)) == 1
    assert len(too_early([*history, *taken], {1: 0.9}, TTL)) == 1


def test_a_stopped_holder_changes_nothing_when_it_wakes_up(figure: Figure, full: bool) -> None:
    tried = 0
    accepted: list[str] = []
    for turn in range(5 if full else 1):
        with ExitStack() as stack:
            stale = stack.enter_context(script("hold_as_told", service=LLM, owner=f"ann {turn}"))
            other = stack.enter_context(script("hold_as_told", service=VECTORS, owner=f"cid {turn}"))
            tokens = [stale.hear()["token"], other.hear()["token"]]
            next_one = stack.enter_context(
                script("hold_as_told", service=LLM, owner=f"bob {turn}", wait=60.0)
            )
            soon(lambda: state_of(LLM).queue_length == 1, "the waiter")
            stopped = monotonic()
            for process in (stale, other):
                os.kill(process.pid, SIGSTOP)
            assert next_one.hear() == {"token": tokens[0] + 1}
            # Nobody keeps this one alive, so that whatever moves it was not its holder.
            soon(lambda: state_of(VECTORS).session_id is None, "the expiry")
            grant = mutex.try_acquire(VECTORS, "dan")
            assert grant is not None
            assert grant.fencing_token == tokens[1] + 1
            assert next_one.ask(do="write") == {"written": True}
            sleep(max(stopped + 3 * TTL - monotonic(), 0.0))
            before = Lease.objects.in_bulk()
            for process in (stale, other):
                process.tell(do="late")  # it lies ready, so that the work goes on before any heartbeat
                os.kill(process.pid, SIGCONT)
            for process in (stale, other):
                verdict = process.hear()
                tried += verdict["tried"]
                accepted += verdict["accepted"]
            for process in (stale, other):
                assert process.ask(do="done") == {"lost": "lost"}
                assert process.wait(10) == 0
            for row in Lease.objects.all():
                assert untouched(row, before[row.pk], kept_alive=row.pk == LLM)
            assert mutex.release(grant)
            assert next_one.ask(do="done") == {"lost": None}
            assert next_one.wait(10) == 0
    figure(f"stopped for {3 * TTL:.0f} s: {tried} stale calls tried, {len(accepted)} accepted")
    assert tried > 0
    assert accepted == []
    written = set(Group.objects.values_list("name", flat=True))
    assert written == {f"bob {turn}" for turn in range(5 if full else 1)}
    outcomes = Hold.objects.values_list("owner", "outcome")
    assert {(owner.split()[0], outcome) for owner, outcome in outcomes} == {
        ("ann", "lost"),
        ("bob", "released"),
        ("cid", "lost"),
        ("dan", "released"),
    }


def untouched(now: Lease, before: Lease, *, kept_alive: bool) -> bool:
    """The row is the same; where its holder keeps it alive, but for those heartbeats."""
    moving = {"last_activity_at", "expires_at"} if kept_alive else set()
    same = {field.attname for field in Lease._meta.concrete_fields} - moving
    return all(getattr(now, name) == getattr(before, name) for name in same) and all(
        getattr(now, name) >= getattr(before, name) for name in moving
    )


def test_a_holder_that_was_not_stopped_may_do_all_of_it() -> None:
    """The control: the calls that are refused to a stale holder are accepted of one that holds."""
    with script("hold_as_told", service=LLM, owner="ann") as holder:
        holder.hear()
        verdict = holder.ask(do="late")
    assert {"fenced write", "renew", "confirm", "release", "activity"} <= set(verdict["accepted"])


@pytest.mark.parametrize("queued", [False, True], ids=["at once", "queued"])
def test_a_callers_transaction_neither_shortens_hides_nor_undoes_a_lease(
    queued: bool, figure: Figure, settings: Settings
) -> None:
    exclusive = connection.vendor == "sqlite"
    if exclusive and queued:
        pytest.skip("On SQLite a transaction that is open keeps everybody else from writing, releases too.")
    token = Lease.objects.get(service=LLM).fencing_token
    ahead = mutex.try_acquire(LLM, "ahead") if queued else None
    with script(
        "hold_beside_transaction", service=LLM, owner="ann", seconds=3 * TTL, wait=30.0 if queued else None
    ) as caller:
        refused = caller.hear()["refused"]
        row = Lease.objects.get(service=LLM)
        assert (row.owner, row.fencing_token) == (("ahead", token + 1) if queued else ("", token))
        assert not Ticket.objects.exists()
        opened = transactions_open()
        caller.tell()
        if ahead is not None:
            soon(lambda: state_of(LLM).queue_length == 1, "the caller's ticket")
            settings.LEASE_TTL = TTL  # whoever hands over says for how long
            assert mutex.release(ahead)
        if exclusive:
            answers = [caller.hear(), caller.hear()]  # the grant comes with the rollback, in either order
            grant = next(answer for answer in answers if "token" in answer)
        else:
            grant = caller.hear()
            assert grant["in_transaction"]
            assert transactions_open() == opened == 1
            look_at(grant["token"])
            assert not Group.objects.exists()
            assert caller.ask() == {"rolled_back": True}
        granted = monotonic()
        look_at(grant["token"])
        while monotonic() < granted + TTL + 0.5:  # its heartbeats keep it, whatever the caller's thread did
            look_at(grant["token"])
            sleep(0.05)
        assert caller.ask() == {"released": True}
        assert caller.wait(10) == 0
    figure(
        f"a transaction of {3 * TTL:.0f} s before the lease{', in the queue' if queued else ''}: "
        f"{grant['left']:.3f} s of {TTL:.0f} left at the grant, {len(refused)} verbs refused inside it"
    )
    assert set(refused.values()) == {"LeaseInTransaction"}
    assert grant["token"] == token + (2 if queued else 1)
    assert TTL - 0.7 < grant["left"] < TTL + 0.01, "a full TTL, less what a busy machine needs to look"
    assert grant["started_after"] >= (3 * TTL - 0.1 if exclusive else -TICK)
    assert not Group.objects.exists()
    assert not Ticket.objects.exists()
    assert Lease.objects.get(service=LLM).session_id is None
    assert Hold.objects.filter(owner="ann").values_list("outcome", "fencing_token").get() == (
        "released",
        grant["token"],
    )


@pytest.mark.parametrize(
    "join",
    [
        lambda: mutex.enqueue(LLM, "ann", uuid4().hex),
        lambda: Waiting(LLM, "ann", lambda: None).enter(),
    ],
    ids=["enqueue", "enter"],
)
def test_who_joins_the_queue_inside_a_transaction_is_told_why_not(join: Callable[[], object]) -> None:
    with transaction.atomic():
        with pytest.raises(LeaseInTransaction):
            join()
    assert not Ticket.objects.exists()


def look_at(token: int) -> None:
    """What everybody else sees: the lease is held, by the caller, now."""
    row = Lease.objects.live().get(service=LLM)
    assert (row.owner, row.fencing_token) == ("ann", token)


def transactions_open() -> int:
    """Transactions of other connections that have been open for 3 TTL; SQLite does not tell."""
    if connection.vendor == "sqlite":
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*) FROM pg_stat_activity
            WHERE state = 'idle in transaction' AND datname = current_database()
            AND clock_timestamp() - xact_start >= make_interval(secs => %s)""",
            [3 * TTL - 0.5],
        )
        count: int = cursor.fetchone()[0]
        return count


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="Only SQLite has one writer at a time.")
def test_who_waits_inside_a_transaction_for_a_lease_is_refused_loudly() -> None:
    token = Lease.objects.get(service=LLM).fencing_token
    with script(
        "hold_inside_transaction",
        service=LLM,
        owner="ann",
        environment={"DATABASE_URL": f"{database_url()}?timeout=1"},
    ) as caller:
        assert caller.hear() == {"came_to": "OperationalError"}
        assert caller.wait(10) == 0
    assert Lease.objects.filter(session_id=None, fencing_token=token, service=LLM).exists()
    assert not Ticket.objects.exists()
    assert mutex.try_acquire(LLM, "bob") is not None

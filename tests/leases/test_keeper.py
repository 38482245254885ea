"""The heartbeats of synchronous work, all in one thread and one statement."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from django.db import DatabaseError, connection
from pytest_django import Settings

from leases import keeper, mutex
from leases.exceptions import LeaseLost
from leases.held import Held
from leases.holding import hold
from leases.models import Hold, Lease
from tests.leases.rows import held_by_another

pytestmark = pytest.mark.usefixtures("leases", "fast")

LLM, VECTORS = "lightweight-llm", "vector-convert"


@pytest.fixture
def fast(settings: Settings) -> Iterator[None]:
    settings.LEASE_TTL, settings.LEASE_HEARTBEAT, settings.LEASE_IDLE_TIMEOUT = 3.0, 0.2, 30.0
    yield
    until(lambda: not threads())


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def expiry(service: str) -> datetime:
    at = Lease.objects.get(service=service).expires_at
    assert at is not None
    return at


def renewed(service: str) -> None:
    """Wait for a heartbeat of the lease."""
    before = expiry(service)
    until(lambda: expiry(service) > before)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lease heartbeats"]


def test_one_statement_renews_all_leases_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    renew_all = mutex.renew_all
    seen: list[set[mutex.Grant]] = []

    def noted(idle_for: dict[mutex.Grant, float]) -> dict[mutex.Grant, float]:
        left = renew_all(idle_for)
        seen.append(set(left))
        return left

    monkeypatch.setattr(mutex, "renew_all", noted)
    with hold(LLM, "ann") as one, hold(VECTORS, "bob") as other:
        before = {service: expiry(service) for service in (LLM, VECTORS)}
        until(lambda: {one.grant, other.grant} in seen)
        assert all(expiry(service) > before[service] for service in (LLM, VECTORS))
        assert len(threads()) == 1


def test_one_thread_serves_those_who_come_one_after_another() -> None:
    seen: set[threading.Thread] = set()
    for _ in range(5):
        with hold(LLM, "ann"):
            seen.update(threads())
    assert len(seen) == 1
    until(lambda: not threads())


def test_it_begins_anew_after_a_pause() -> None:
    for _ in range(2):
        with hold(LLM, "ann"):
            renewed(LLM)
        until(lambda: not threads())


def test_a_lease_with_a_sooner_heartbeat_is_not_kept_waiting(settings: Settings) -> None:
    settings.LEASE_TTL, settings.LEASE_HEARTBEAT = 300.0, 100.0
    with hold(LLM, "ann"):
        settings.LEASE_TTL, settings.LEASE_HEARTBEAT = 3.0, 0.2
        with hold(VECTORS, "bob"):
            renewed(VECTORS)


def test_one_that_is_lost_takes_no_other_with_it() -> None:
    with hold(LLM, "ann") as kept:
        with pytest.raises(LeaseLost, match="ended by an administrator"), hold(VECTORS, "bob") as lost:
            assert mutex.force_release(VECTORS, lost.grant.session_id, by="ops", reason="test")
            until(lambda: lost.lost)
        renewed(LLM)
        kept.activity()
    outcomes = Hold.objects.order_by("service").values_list("service", "outcome")
    assert list(outcomes) == [(LLM, "released"), (VECTORS, "forced")]


def test_without_its_database_a_holder_stops_by_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise DatabaseError("connection refused")

    with pytest.raises(LeaseLost, match="could not keep it alive"), hold(LLM, "ann") as held:
        monkeypatch.setattr(mutex, "renew_all", unreachable)
        until(lambda: held.lost)


@pytest.mark.parametrize("error", [DatabaseError("connection refused"), ValueError("unforeseen")])
def test_a_heartbeat_that_failed_is_tried_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    renew_all = mutex.renew_all
    failed: list[Exception] = []

    def once_failing(idle_for: dict[mutex.Grant, float]) -> dict[mutex.Grant, float]:
        if not failed:
            failed.append(error)
            raise error
        return renew_all(idle_for)

    monkeypatch.setattr(mutex, "renew_all", once_failing)
    with hold(LLM, "ann") as held:
        renewed(LLM)
        assert failed
        held.activity()


def test_a_writing_longer_than_the_ttl_keeps_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    renew_all = mutex.renew_all
    sent: list[int] = []

    def noted(idle_for: dict[mutex.Grant, float]) -> dict[mutex.Grant, float]:
        sent.append(len(idle_for))
        return renew_all(idle_for)

    with hold(LLM, "ann") as held:
        with held.fenced():
            monkeypatch.setattr(mutex, "renew_all", noted)
            Lease.objects.filter(service=VECTORS).update(ended_reason="written")
            time.sleep(4)
            assert not sent  # there is nobody to renew
        held.activity()
    assert Lease.objects.filter(ended_reason="written").exists()


def test_nobody_waits_for_a_lease_whose_row_is_locked() -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks the whole database")
    with hold(LLM, "ann") as waited_for, hold(VECTORS, "bob") as other:
        with held_by_another(lambda: mutex.confirm(waited_for.grant)):
            for _ in range(3):
                renewed(VECTORS)
            other.activity()
        waited_for.activity()


def test_two_threads_may_write_and_the_first_to_end_does_not_end_it() -> None:
    grant = mutex.acquire(LLM, "ann")
    held = Held(grant, time.monotonic() - 100)  # which has run out by its own clock
    with held.fenced():
        first = held.fenced()
        with pytest.raises(RuntimeError, match="durable"):
            first.__enter__()
        assert held.writing
        assert held.late() is None
    assert not held.writing


def test_a_heartbeat_that_comes_back_after_a_writing_takes_nothing_from_it() -> None:
    held = Held(mutex.acquire(LLM, "ann"), time.monotonic())
    with held.fenced():
        pass
    held.renewed(time.monotonic() - 20, 3.0)
    assert held.until_expiry() > 2


def test_a_thread_that_could_not_be_started_is_started_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def exhausted(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", exhausted)
    with pytest.raises(RuntimeError, match="can't start"), hold(LLM, "ann"):
        pytest.fail("held without a heartbeat")
    assert Hold.objects.get(service=LLM).outcome == "released"
    monkeypatch.setattr(threading.Thread, "start", start)
    with hold(LLM, "ann"):
        renewed(LLM)


def test_the_collector_may_end_a_hold_in_the_midst_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    grant = mutex.Grant(VECTORS, "0" * 32, "bob", 1, 300.0, 300.0)
    collected, other = Held(grant, time.monotonic()), Held(grant, time.monotonic())
    keeper.keep(collected)

    def until_beat(held: Held) -> float:
        keeper.drop(collected)
        return 0.2

    monkeypatch.setattr(Held, "until_beat", until_beat)
    keeping = threading.Thread(target=keeper.keep, args=(other,), daemon=True)
    keeping.start()
    keeping.join(10)
    assert not keeping.is_alive()
    keeper.drop(other)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_has_heartbeats_of_its_own() -> None:
    """The thread of the parent is not there, and the leases of the parent are not the child's to renew."""
    with hold(LLM, "ann") as theirs:
        child = os.fork()
        if child == 0:
            ours = Held(mutex.Grant(VECTORS, "0" * 32, "bob", 1, 300.0, 300.0), time.monotonic())
            keeper.keep(ours)
            own = keeper._keeper_of(os.getpid())
            os._exit(0 if threads() and own._held == {ours} else 1)
        assert os.waitpid(child, 0)[1] == 0
        theirs.activity()

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from django.db import DatabaseError, connection, transaction
from pytest_django import Settings

from leases import mutex
from leases.exceptions import LeaseInTransaction, LeaseLost, ServiceBusy
from leases.held import Held
from leases.holding import ahold, hold, shut_down
from leases.models import Hold, Lease
from tests.database import query
from tests.leases.clock import let_pass

pytestmark = pytest.mark.usefixtures("leases")

LLM = "lightweight-llm"


@pytest.fixture
def fast(settings: Settings) -> None:
    settings.LEASE_TTL, settings.LEASE_HEARTBEAT, settings.LEASE_IDLE_TIMEOUT = 3.0, 0.2, 30.0


def live() -> bool:
    return Lease.objects.live().exists()


def outcomes() -> list[str]:
    return list(Hold.objects.order_by("fencing_token").values_list("outcome", flat=True))


def force(held: Held) -> None:
    assert mutex.force_release(LLM, held.grant.session_id, by="ops", reason="test")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what must come; the test's own limit is ten seconds."""
    async with asyncio.timeout(10):
        while not await query(condition):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)


async def started_holding() -> "asyncio.Task[None]":
    """A task that holds the lease, and goes on doing so until it is cancelled."""
    entered = asyncio.Event()

    async def work() -> None:
        async with ahold(LLM, "ann"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    return task


class TestSynchronous:
    def test_holds_and_releases(self) -> None:
        with hold(LLM, "ann") as held:
            assert live()
            held.activity()
            with pytest.raises(ServiceBusy), hold(LLM, "bob"):
                pytest.fail("two holders")
        assert not live()
        assert outcomes() == ["released"]

    def test_releases_when_the_work_fails(self) -> None:
        with pytest.raises(ZeroDivisionError), hold(LLM, "ann"):
            raise ZeroDivisionError
        assert outcomes() == ["released"]

    def test_heartbeats_keep_it_past_its_ttl(self, fast: None) -> None:
        with hold(LLM, "ann") as held:
            before = Lease.objects.get(service=LLM).expires_at
            deadline = time.monotonic() + 10
            while Lease.objects.get(service=LLM).expires_at == before:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            held.activity()

    def test_a_forced_end_reaches_the_work_at_its_next_activity(self, fast: None) -> None:
        lost = threading.Event()
        with pytest.raises(LeaseLost, match="ended by an administrator") as error, hold(LLM, "ann") as held:
            force(held)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                held.activity()
                lost.wait(0.01)
        assert error.value.outcome == "forced"
        assert outcomes() == ["forced"]

    def test_refuses_an_open_transaction(self) -> None:
        with transaction.atomic(), pytest.raises(LeaseInTransaction), hold(LLM, "ann"):
            pytest.fail("held inside a transaction")
        assert not live()


class TestFence:
    def test_commits_while_the_lease_is_held(self) -> None:
        with hold(LLM, "ann") as held:
            with held.fenced():
                Lease.objects.filter(service="vector-convert").update(ended_reason="written")
            assert Lease.objects.filter(ended_reason="written").exists()

    @pytest.mark.parametrize("successor", [True, False])
    def test_writes_nothing_once_it_is_lost(self, successor: bool) -> None:
        grant = mutex.acquire(LLM, "ann")
        stale = Held(grant, time.monotonic())
        let_pass(31)
        if successor:
            mutex.acquire(LLM, "bob")
        with pytest.raises(LeaseLost) as error, stale.fenced():
            Lease.objects.filter(service="vector-convert").update(ended_reason="written")
        assert error.value.outcome == "lost"
        assert not Lease.objects.filter(ended_reason="written").exists()

    def test_is_refused_inside_a_transaction_that_could_undo_it(self) -> None:
        with hold(LLM, "ann") as held:
            with transaction.atomic(), pytest.raises(RuntimeError, match="durable"), held.fenced():
                pytest.fail("fenced inside a transaction")

    def test_a_takeover_waits_until_the_fenced_transaction_has_ended(self) -> None:
        """The lease expires while its holder commits: the successor comes after, never in between."""
        grant = mutex.acquire(LLM, "ann")
        held = Held(grant, time.monotonic())
        order: list[str] = []
        started = threading.Event()

        def contender() -> None:
            started.set()
            try:
                while mutex.try_acquire(LLM, "bob") is None:
                    pass
                order.append("taken over")
            finally:
                connection.close()

        thread = threading.Thread(target=contender)
        with held.fenced():
            Lease.objects.filter(service="vector-convert").update(ended_reason="written")
            thread.start()
            started.wait()
            thread.join(0.3)
            order.append("committed")
        let_pass(31)
        thread.join(10)
        assert order == ["committed", "taken over"]


class TestAsynchronous:
    async def test_holds_and_releases(self) -> None:
        async with ahold(LLM, "ann") as held:
            assert await query(live)
            held.activity()
            with pytest.raises(ServiceBusy):
                async with ahold(LLM, "bob"):
                    pytest.fail("two holders")
        assert not await query(live)
        assert await query(outcomes) == ["released"]

    async def test_releases_when_the_work_fails(self) -> None:
        with pytest.raises(ZeroDivisionError):
            async with ahold(LLM, "ann"):
                raise ZeroDivisionError
        assert await query(outcomes) == ["released"]

    async def test_releases_when_cancelled_and_stays_cancelled(self) -> None:
        task = await started_holding()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await query(outcomes) == ["released"]

    async def test_a_caller_cancelled_while_acquiring_leaves_no_lease(self) -> None:
        for _ in range(20):
            task = asyncio.create_task(ahold(LLM, "ann").__aenter__())
            await asyncio.sleep(0)  # the statement is on its way in its thread
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await shut_down(10)  # what was granted after all is given back in the background, one by one
        assert not await query(live)
        assert set(await query(outcomes)) <= {"released"}

    async def test_a_caller_cancelled_twice_while_releasing_still_releases(self) -> None:
        task = await started_holding()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await query(outcomes) == ["released"]

    async def test_heartbeats_keep_it_past_its_ttl(self, fast: None) -> None:
        async with ahold(LLM, "ann"):
            before = (await query(Lease.objects.get, service=LLM)).expires_at
            await until(lambda: Lease.objects.get(service=LLM).expires_at != before)

    async def test_a_forced_end_cancels_the_work_and_says_why(self, fast: None) -> None:
        reached = False
        with pytest.raises(LeaseLost, match="ended by an administrator"):
            async with asyncio.timeout(10):
                async with ahold(LLM, "ann") as held:
                    await query(force, held)
                    await asyncio.Event().wait()
                    reached = True
        assert not reached
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        assert await query(outcomes) == ["forced"]

    async def test_work_that_ignores_its_cancellation_still_ends_in_lease_lost(self, fast: None) -> None:
        with pytest.raises(LeaseLost):
            async with ahold(LLM, "ann") as held:
                await query(force, held)
                try:
                    await asyncio.wait_for(asyncio.Event().wait(), 10)
                except asyncio.CancelledError:
                    pass
        await asyncio.sleep(0)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    async def test_idle_work_is_cancelled_at_the_idle_timeout(self, fast: None, settings: Settings) -> None:
        settings.LEASE_IDLE_TIMEOUT = 1.0
        with pytest.raises(LeaseLost, match="expired"):
            async with asyncio.timeout(10):
                async with ahold(LLM, "ann"):
                    await asyncio.Event().wait()
        assert await query(outcomes) == ["expired"]

    async def test_active_work_outlives_the_idle_timeout(self, fast: None, settings: Settings) -> None:
        settings.LEASE_IDLE_TIMEOUT = 2.0
        end = time.monotonic() + 3.0
        async with ahold(LLM, "ann") as held:
            while time.monotonic() < end:
                held.activity()
                await asyncio.sleep(0.02)
        assert await query(outcomes) == ["released"]

    async def test_activity_is_told_in_time_however_rare_the_heartbeats(self, settings: Settings) -> None:
        settings.LEASE_TTL, settings.LEASE_HEARTBEAT, settings.LEASE_IDLE_TIMEOUT = 30.0, 10.0, 1.5
        end = time.monotonic() + 4.0
        async with ahold(LLM, "ann") as held:
            while time.monotonic() < end:
                held.activity()
                await asyncio.sleep(0.02)
        assert await query(outcomes) == ["released"]

    async def test_a_writing_longer_than_the_ttl_keeps_its_lease(
        self, fast: None, settings: Settings
    ) -> None:
        settings.LEASE_TTL = 2.5

        def write(held: Held) -> None:
            with held.fenced():
                Lease.objects.filter(service="vector-convert").update(ended_reason="written")
                time.sleep(3.5)

        async with ahold(LLM, "ann") as held:
            await query(write, held)
            assert await query(mutex.try_acquire, LLM, "bob") is None
        assert await query(Lease.objects.filter(ended_reason="written").exists)
        assert await query(outcomes) == ["released"]

    async def test_a_stopping_server_cancels_and_releases(self) -> None:
        task = await started_holding()
        await shut_down(5)
        assert task.cancelled()
        assert await query(outcomes) == ["released"]

    async def test_a_database_that_hangs_at_the_release_holds_nobody_up(
        self, fast: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        back = threading.Event()

        def hanging(*args: object, **kwargs: object) -> None:
            back.wait(30)
            raise DatabaseError("the connection is lost")

        try:
            with pytest.raises(LeaseLost):
                async with asyncio.timeout(10):
                    async with ahold(LLM, "ann"):
                        monkeypatch.setattr(mutex, "renew", hanging)
                        monkeypatch.setattr(mutex, "release", hanging)
                        await asyncio.Event().wait()
        finally:
            back.set()

    async def test_without_its_database_the_holder_stops_by_its_own_clock(
        self, fast: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unreachable(*args: object, **kwargs: object) -> None:
            raise DatabaseError("connection refused")

        began = time.monotonic()
        with pytest.raises(LeaseLost, match="could not keep it alive"):
            async with asyncio.timeout(10):
                async with ahold(LLM, "ann"):
                    monkeypatch.setattr(mutex, "renew", unreachable)
                    await asyncio.Event().wait()
        assert 2.5 < time.monotonic() - began < 8

    async def test_one_missed_heartbeat_costs_nothing(
        self, fast: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        renew, calls = mutex.renew, []

        def once_unreachable(grant: mutex.Grant, *, idle_for: float) -> float | None:
            calls.append(grant)
            if len(calls) == 1:
                raise DatabaseError("connection refused")
            return renew(grant, idle_for=idle_for)

        monkeypatch.setattr(mutex, "renew", once_unreachable)
        async with ahold(LLM, "ann") as held:
            await until(lambda: len(calls) > 2)
            held.activity()
        assert await query(outcomes) == ["released"]

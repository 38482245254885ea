"""Waiting for a turn, in synchronous and in asynchronous programs."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection
from django.db.models import F

from leases import mutex, waiting
from leases.exceptions import LeaseInTransaction, ServiceBusy
from leases.holding import ahold, hold, shut_down
from leases.models import Lease, Service, Ticket
from leases.turn import Turn
from tests.database import query
from tests.leases.test_holding import until

pytestmark = pytest.mark.usefixtures("leases")

LLM, VECTORS = "lightweight-llm", "vector-convert"


def somebody_waits() -> bool:
    return Ticket.objects.live().exists()


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_for(service: str, owner: str) -> int:
    """Wait for the service; 0 if it was had in time."""
    try:
        with hold(service, owner, wait=10):
            return 0
    except ServiceBusy:
        return 1


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Waiter:
    """A task that waits for its turn, what it was told, and when it was served."""

    def __init__(self, owner: str, wait: float = 30) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.served = asyncio.Event()
        self.go_on = asyncio.Event()
        self.task = asyncio.create_task(self._run(owner, wait))

    async def _run(self, owner: str, wait: float) -> None:
        async with ahold(LLM, owner, Turn(wait=wait, tell=lambda *event: self.told.append(event))):
            self.served.set()
            await self.go_on.wait()

    async def until_told(self, name: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while not (data := [data for told, data in self.told if told == name]):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return data[-1]


class TestSynchronous:
    def test_a_program_waits_for_its_turn(self) -> None:
        ann = mutex.acquire(LLM, "ann")
        served = threading.Event()

        def work() -> None:
            with hold(LLM, "bob", wait=20) as held:
                assert held.grant.fencing_token == ann.fencing_token + 1
                served.set()

        thread = in_thread(work)
        wait_until(somebody_waits)
        assert not served.is_set()
        mutex.release(ann)
        assert served.wait(10)
        thread.join(10)
        assert not Ticket.objects.exists()

    def test_a_free_service_is_taken_without_a_ticket(self) -> None:
        with hold(LLM, "ann", wait=20):
            assert not Ticket.objects.exists()

    def test_it_gives_up_in_time_and_leaves_no_ticket(self) -> None:
        mutex.acquire(LLM, "ann")
        began = time.monotonic()
        with pytest.raises(ServiceBusy, match=r"still busy after 0\.5 seconds") as busy:
            with hold(LLM, "bob", wait=0.5):
                pytest.fail("two holders")
        assert 0.5 <= time.monotonic() - began < 5
        assert busy.value.reason == "wait_timeout"
        assert not Ticket.objects.exists()

    def test_somebody_taken_out_of_the_queue_is_told_so(self) -> None:
        mutex.acquire(LLM, "ann")
        told: list[ServiceBusy] = []

        def work() -> None:
            try:
                with hold(LLM, "bob", wait=20):
                    pytest.fail("two holders")
            except ServiceBusy as busy:
                told.append(busy)

        thread = in_thread(work)
        wait_until(somebody_waits)
        assert mutex.remove(Ticket.objects.get().pk) == (LLM, "bob")
        thread.join(10)
        assert "An operator has taken you out of the queue for the chat service." in str(told[0])

    def test_an_interrupt_leaves_no_ticket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        mutex.acquire(LLM, "ann")

        def interrupted(*args: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(waiting.Waiting, "claim", interrupted)
        with pytest.raises(KeyboardInterrupt), hold(LLM, "bob", wait=2):
            pytest.fail("held")
        assert not Ticket.objects.exists()

    def test_the_queue_refuses_an_open_transaction(self) -> None:
        from django.db import transaction

        with transaction.atomic(), pytest.raises(LeaseInTransaction):
            mutex.enqueue(LLM, "bob", uuid4().hex)
        with transaction.atomic(), pytest.raises(LeaseInTransaction):
            mutex.claim(mutex.Ticket(1, LLM, "bob", uuid4().hex, 30))
        assert not Ticket.objects.exists()

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_fork_looks_for_itself(self) -> None:
        """The thread that looks for the parent's waiters is not there in the child."""
        ann, other = mutex.acquire(LLM, "ann"), mutex.acquire(VECTORS, "ann")
        thread = in_thread(lambda: wait_for(VECTORS, "bob"))
        wait_until(somebody_waits)
        connection.close()
        child = os.fork()
        if child == 0:
            if connection.vendor == "postgresql":
                connection._connection_pools.clear()  # type: ignore[attr-defined]  # they are the parent's
            code = 1
            try:
                code = wait_for(LLM, "cid")
            finally:
                os._exit(code)
        wait_until(Ticket.objects.live().filter(service=LLM).exists)
        began = time.monotonic()
        mutex.release(ann)
        assert os.waitpid(child, 0)[1] == 0
        assert time.monotonic() - began < waiting.POLL_SECONDS + 3
        mutex.release(other)
        thread.join(10)


class TestAsynchronous:
    async def test_turns_come_in_order_and_each_is_told_its_place(self) -> None:
        ann = await query(mutex.acquire, LLM, "ann")
        bob = Waiter("bob")
        assert (await bob.until_told("queued"))["position"] == 1
        cid = Waiter("cid")
        assert (await cid.until_told("queued"))["position"] == 2
        await query(mutex.release, ann)
        await asyncio.wait_for(bob.served.wait(), 10)
        assert (await bob.until_told("started"))["queuedMs"] > 0
        async with asyncio.timeout(10):
            while (await cid.until_told("queued"))["position"] != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not cid.served.is_set()
        bob.go_on.set()
        await asyncio.wait_for(cid.served.wait(), 10)
        cid.go_on.set()
        await asyncio.gather(bob.task, cid.task)

    async def test_who_comes_is_seen_at_once_and_the_new_ticket_not_written_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep, kept = mutex.keep, []

        def noted(waiters: Collection[str]) -> set[str]:
            kept.append(waiters)
            return keep(waiters)

        monkeypatch.setattr(mutex, "keep", noted)
        monkeypatch.setattr(waiting, "POLL_SECONDS", 60)
        await query(mutex.acquire, LLM, "ann")
        waiters = []
        for place, owner in enumerate(("bob", "cid", "dan"), 1):
            waiters.append(Waiter(owner))
            assert (await waiters[-1].until_told("queued"))["position"] == place
        assert kept == []
        for waiter in waiters:
            waiter.task.cancel()
        await asyncio.gather(*(waiter.task for waiter in waiters), return_exceptions=True)

    async def test_the_ticket_of_who_waits_never_lapses(self) -> None:
        await query(mutex.acquire, LLM, "ann")
        await query(Service.objects.filter(pk=LLM).update, ttl=1.5)
        bob = Waiter("bob")
        await bob.until_told("queued")
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert await query(somebody_waits)
            await asyncio.sleep(0.02)
        bob.task.cancel()
        await asyncio.gather(bob.task, return_exceptions=True)

    async def test_who_waits_for_their_own_session_is_told_so(self) -> None:
        await query(mutex.acquire, LLM, "ann")
        own, other = Waiter("ann"), Waiter("bob")
        assert (await own.until_told("queued"))["yours"] is True
        assert (await other.until_told("queued"))["yours"] is False
        for waiter in (own, other):
            waiter.task.cancel()
        await asyncio.gather(own.task, other.task, return_exceptions=True)

    async def test_an_expired_holder_is_succeeded_at_its_expiry(self) -> None:
        await query(Service.objects.filter(pk=LLM).update, ttl=1.5)
        await query(mutex.acquire, LLM, "ann")
        began = time.monotonic()
        bob = Waiter("bob")
        await asyncio.wait_for(bob.served.wait(), 10)
        print(f"succeeded {time.monotonic() - began - 1.5:.3f} s after the expiry")
        assert 1.4 < time.monotonic() - began < 3
        bob.go_on.set()
        await bob.task

    async def test_who_is_cancelled_keeps_the_place_and_a_stranger_does_not(self) -> None:
        await query(mutex.acquire, LLM, "ann")
        for owner, kept in (("user:7", True), ("passing:7", False)):
            waiter = Waiter(owner)
            await waiter.until_told("queued")
            waiter.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter.task
            await until(lambda: not somebody_waits())
            assert await query(Ticket.objects.filter(owner=owner).exists) is kept

    async def test_a_stopping_server_cancels_those_who_wait_too(self) -> None:
        await query(mutex.acquire, LLM, "ann")
        waiter = Waiter("user:7")
        await waiter.until_told("queued")
        await shut_down(5)
        assert waiter.task.cancelled()
        await until(lambda: not somebody_waits())

    async def test_a_place_that_got_lost_unseen_is_taken_again_at_the_end(self) -> None:
        """The process slept for so long that its ticket was forgotten."""
        ann = await query(mutex.acquire, LLM, "ann")
        bob = Waiter("bob")
        await bob.until_told("queued")
        await query(Ticket.objects.all().delete)
        await until(somebody_waits)
        await query(mutex.release, ann)
        await asyncio.wait_for(bob.served.wait(), 10)
        bob.go_on.set()
        await bob.task

    async def test_an_expired_ticket_of_somebody_who_still_waits_lives_again(self) -> None:
        ann = await query(mutex.acquire, LLM, "ann")
        bob = Waiter("bob")
        await bob.until_told("queued")
        ticket = await query(Ticket.objects.get)
        await query(Ticket.objects.update, expires_at=F("expires_at") - timedelta(seconds=31))
        await until(somebody_waits)
        assert (await query(Ticket.objects.get)).pk == ticket.pk
        await query(mutex.release, ann)
        await asyncio.wait_for(bob.served.wait(), 10)
        bob.go_on.set()
        await bob.task

    async def test_the_owners_next_request_takes_the_place_over(self) -> None:
        ann = await query(mutex.acquire, LLM, "ann")
        first = Waiter("bob")
        await first.until_told("queued")
        second = Waiter("bob")
        await second.until_told("queued")
        with pytest.raises(ServiceBusy, match="in another window"):
            await asyncio.wait_for(first.task, 10)
        await query(mutex.release, ann)
        await asyncio.wait_for(second.served.wait(), 10)
        second.go_on.set()
        await second.task
        assert not await query(Ticket.objects.exists)

    @pytest.mark.parametrize("at", ["queued", "started"])
    async def test_a_listener_that_fails_leaves_no_lease_and_no_ticket(self, at: str) -> None:
        def fail(event: str, data: dict[str, Any]) -> None:
            if event == at:
                raise ZeroDivisionError

        ann = await query(mutex.acquire, LLM, "ann")
        if at == "started":
            await query(mutex.release, ann)
        with pytest.raises(ZeroDivisionError):
            async with ahold(LLM, "passing:bob", Turn(wait=10, tell=fail)):
                pytest.fail("held")
        await until(lambda: not Ticket.objects.exists())
        assert await query(Lease.objects.live().exists) is (at == "queued")

    async def test_nothing_is_kept_of_those_who_have_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from leases import wakeups

        sleepers: dict[int, Callable[[], None]] = {}
        monkeypatch.setattr(wakeups, "_sleepers", sleepers)
        ann = await query(mutex.acquire, LLM, "ann")
        served, cancelled, late = Waiter("bob"), Waiter("cid"), Waiter("dan", wait=1)
        await asyncio.gather(*(waiter.until_told("queued") for waiter in (served, cancelled, late)))
        cancelled.task.cancel()
        with pytest.raises(ServiceBusy):
            await late.task
        await query(mutex.release, ann)
        await asyncio.wait_for(served.served.wait(), 10)
        served.go_on.set()
        await served.task
        await until(lambda: not sleepers and not waiting._room().everybody())

    async def test_a_claim_that_the_database_did_not_answer_is_made_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claim, tries = mutex.claim, []

        def once_unreachable(ticket: mutex.Ticket) -> mutex.Grant | None:
            tries.append(ticket)
            if len(tries) == 1:
                raise DatabaseError("connection refused")
            return claim(ticket)

        monkeypatch.setattr(mutex, "claim", once_unreachable)
        ann = await query(mutex.acquire, LLM, "ann")
        bob = Waiter("bob")
        await bob.until_told("queued")
        await query(mutex.release, ann)
        await asyncio.wait_for(bob.served.wait(), 10)
        assert len(tries) == 2
        bob.go_on.set()
        await bob.task

    async def test_a_lost_wake_up_costs_one_poll(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from leases import wakeups

        monkeypatch.setattr(wakeups, "wake", lambda ticket_id: None)
        ann = await query(mutex.acquire, LLM, "ann")
        bob = Waiter("bob")
        await bob.until_told("queued")
        began = time.monotonic()
        await query(mutex.release, ann)
        await asyncio.wait_for(bob.served.wait(), 10)
        print(f"served {time.monotonic() - began:.3f} s after the release, without a wake-up")
        assert time.monotonic() - began < waiting.POLL_SECONDS + 1
        bob.go_on.set()
        await bob.task

"""Many who come while a service is busy."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from leases import mutex, rush
from leases.exceptions import ServiceBusy, UnknownService
from leases.holding import ahold, take
from leases.models import Hold, Service
from leases.status import state_of, states
from tests.database import query
from tests.leases.clock import let_pass

pytestmark = pytest.mark.usefixtures("leases")

LLM, VECTORS = "lightweight-llm", "vector-convert"


@asynccontextmanager
async def rushed() -> AsyncIterator[mutex.Grant]:
    """A service that is held, and has just refused somebody."""
    grant = await query(mutex.acquire, LLM, "ann")
    with pytest.raises(ServiceBusy):
        await take(LLM, "bob")
    yield grant


async def test_those_who_come_together_share_a_look(
    statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rush, "SECONDS", 60.0)
    async with rushed():
        statements.clear()
        refused = await asyncio.gather(
            *(take(LLM, f"user:{number}") for number in range(50)), return_exceptions=True
        )
        assert {type(error) for error in refused} == {ServiceBusy}
        assert len(statements) <= 2  # those who came before the first look began, and the others


async def test_a_look_says_the_same_as_trying() -> None:
    async with rushed():
        for owner in ("ann", "bob"):
            with pytest.raises(ServiceBusy) as looked:
                await rush.refuse(LLM, owner)
            with pytest.raises(ServiceBusy) as tried:
                await query(mutex.acquire, LLM, owner)
            assert vars(looked.value) == vars(tried.value)
            assert str(looked.value) == str(tried.value)


async def test_a_service_that_was_given_back_is_had_by_the_next_who_asks() -> None:
    async with rushed() as grant:
        await query(mutex.release, grant)
        async with ahold(LLM, "bob"):
            pass


async def test_a_lapsed_session_is_in_nobodys_way() -> None:
    async with rushed():
        await query(let_pass, 31)
        async with ahold(LLM, "bob"):
            pass
        assert await query(lambda: Hold.objects.get(owner="ann").outcome) == "lost"


async def test_a_newcomer_does_not_overtake_who_waits_for_a_free_service() -> None:
    async with rushed() as grant:
        await query(mutex.enqueue, LLM, "cem", "w" * 32)
        await query(Service.objects.filter(pk=LLM).update, enabled=False)
        await query(mutex.release, grant)  # to nobody, as the service is switched off
        await query(Service.objects.filter(pk=LLM).update, enabled=True)
        assert not await query(lambda: state_of(LLM).session_id)
        with pytest.raises(ServiceBusy) as busy:
            await rush.refuse(LLM, "dee")
        assert busy.value.queue_length == 1


async def test_a_service_that_was_switched_off_says_so() -> None:
    async with rushed() as grant:
        await query(mutex.release, grant)
        await query(
            Service.objects.filter(pk=LLM).update, enabled=False, disabled_message="Closed until noon."
        )
        with pytest.raises(ServiceBusy, match="Closed until noon") as disabled:
            await rush.refuse(LLM, "bob")
        assert disabled.value.reason == "disabled"


async def test_other_services_are_none_of_its_business(statements: list[str]) -> None:
    async with rushed():
        statements.clear()
        await rush.refuse(VECTORS, "bob")
        assert not statements
        with pytest.raises(UnknownService):
            await take("no-such-service", "bob")
        async with ahold(VECTORS, "bob"):
            pass


async def test_looks_do_not_prolong_it_so_somebody_tries_in_earnest_now_and_then(
    statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(rush, "monotonic", lambda: now[0])
    async with rushed():
        tried = []
        for now[0] in (100.4, 100.8, 101.2, 101.6):
            statements.clear()
            with suppress(ServiceBusy):
                await take(LLM, "bob")
            tried.append(any("UPDATE" in statement for statement in statements))
        assert tried == [False, False, True, False]


async def test_who_asks_after_a_release_is_not_told_what_was_true_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody's look is on its way when the holder gives back: who comes afterwards does not share it."""
    begun, finish = threading.Event(), threading.Event()

    def slow() -> Any:
        found = states()
        begun.set()
        assert finish.wait(10)
        return found

    async with rushed() as grant:
        monkeypatch.setattr(rush._states, "_function", slow)
        early = asyncio.create_task(take(LLM, "bob"))
        assert await asyncio.to_thread(begun.wait, 10)
        await query(mutex.release, grant)
        late = asyncio.create_task(take(LLM, "cem"))
        await asyncio.sleep(0)
        finish.set()
        with pytest.raises(ServiceBusy):
            await early
        assert (await late).grant.owner == "cem"

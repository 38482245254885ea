"""One question for all who ask at the same time."""

import asyncio
import threading

import pytest

from leases.database import Together


class Gate:
    """Answers with how often it was asked, once it is open."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun = threading.Semaphore(0)
        self.open = threading.Semaphore(0)

    def __call__(self) -> int:
        self.asked += 1
        self.begun.release()
        assert self.open.acquire(timeout=10)
        return self.asked

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=10)


async def asking(together: Together[int], count: int) -> list["asyncio.Task[int]"]:
    tasks = [asyncio.create_task(together.ask()) for _ in range(count)]
    await asyncio.sleep(0)  # each comes as far as its waiting
    return tasks


async def test_who_comes_while_it_is_asked_shares_the_next_time_and_not_this_one() -> None:
    gate = Gate()
    together = Together(gate)
    first = await asking(together, 1)
    await gate.has_begun()
    others = await asking(together, 20)
    gate.open.release()
    assert await first[0] == 1
    await gate.has_begun()
    late = await asking(together, 1)
    gate.open.release()
    assert await asyncio.gather(*others) == [2] * 20
    gate.open.release()
    assert await late[0] == 3
    assert gate.asked == 3


async def test_one_who_goes_away_takes_nothing_from_the_others() -> None:
    gate = Gate()
    together = Together(gate)
    await asking(together, 1)
    await gate.has_begun()
    leaver, stayer = await asking(together, 2)
    leaver.cancel()
    gate.open.release(2)
    assert await stayer == 2
    assert leaver.cancelled()


async def test_an_error_is_everybodys_who_asked_and_nobodys_afterwards() -> None:
    divisors = iter([0, 1])
    together = Together(lambda: 7 // next(divisors))
    with pytest.raises(ZeroDivisionError):
        await together.ask()
    assert await together.ask() == 7


def test_it_serves_one_event_loop_after_another() -> None:
    together = Together(lambda: 1)
    assert [asyncio.run(together.ask()) for _ in range(2)] == [1, 1]


def test_a_loop_that_ends_before_its_answer_leaves_nothing_for_the_next() -> None:
    gate = Gate()
    together = Together(gate)

    async def leave() -> None:
        await asking(together, 1)
        await gate.has_begun()
        await asking(together, 1)  # which has not begun

    async def come() -> int:
        (asked,) = await asking(together, 1)
        gate.open.release(3)
        return await asyncio.wait_for(asked, 10)

    asyncio.run(leave())
    assert asyncio.run(come()) == 3

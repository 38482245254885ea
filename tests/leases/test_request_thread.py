"""Requests borrow threads: each has one of its own, which is whole again when the next one has it."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from leases.models import Service
from leases.request_thread import KEPT, RequestThread, give_thread_back, request_thread


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ThreadPoolExecutor]]:
    """The threads that nobody borrows; none at first."""
    threads: list[ThreadPoolExecutor] = []
    monkeypatch.setattr(RequestThread, "_idle", threads)
    yield threads
    for thread in threads:
        thread.shutdown()


async def its_thread() -> int:
    return await sync_to_async(threading.get_ident)()


async def test_a_request_has_one_thread_and_the_next_has_it_after_it() -> None:
    async with request_thread():
        first = {await its_thread() for _ in range(3)}
    async with request_thread():
        assert {await its_thread()} == first
    assert len(first) == 1


async def test_two_at_the_same_time_have_two() -> None:
    both = asyncio.Barrier(2)

    async def request() -> int:
        async with request_thread():
            thread = await its_thread()
            await both.wait()
            assert await its_thread() == thread
            return thread

    assert len(set(await asyncio.gather(request(), request()))) == 2


async def test_a_request_that_asks_for_nothing_has_none(idle: list[ThreadPoolExecutor]) -> None:
    async with request_thread():
        pass
    assert idle == []


async def test_one_that_failed_may_have_left_something_in_its_thread() -> None:
    with pytest.raises(ZeroDivisionError):
        async with request_thread():
            failed = await sync_to_async(threading.current_thread)()
            raise ZeroDivisionError
    async with request_thread():
        assert await sync_to_async(threading.current_thread)() is not failed
    await asyncio.to_thread(failed.join, 10)
    assert not failed.is_alive()


async def test_whoever_waits_lends_it_to_others_and_gets_one_again() -> None:
    async with request_thread():
        thread = await its_thread()
        give_thread_back()
        give_thread_back()  # it has none any more
        async with request_thread():
            assert await its_thread() == thread
        assert await its_thread() == thread


async def test_nobody_gets_one_that_is_still_at_work(idle: list[ThreadPoolExecutor]) -> None:
    over = threading.Event()
    async with request_thread():
        at_work = asyncio.ensure_future(sync_to_async(over.wait)(10))
        await asyncio.sleep(0)
        give_thread_back()
        assert idle == []
        async with asyncio.timeout(5):
            await its_thread()
        over.set()
        assert await at_work


async def test_those_of_a_crowd_end(idle: list[ThreadPoolExecutor]) -> None:
    crowd = 3 * KEPT
    everybody = asyncio.Barrier(crowd)

    async def request() -> threading.Thread:
        async with request_thread():
            thread = await sync_to_async(threading.current_thread)()
            await everybody.wait()
            return thread

    threads = await asyncio.gather(*(request() for _ in range(crowd)))
    assert len(set(threads)) == crowd
    assert len(idle) == KEPT
    for thread in threads:
        if thread.ident not in {one.ident for each in idle for one in each._threads}:
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()


async def test_it_keeps_no_connection_between_the_parts_of_a_request(leases: None) -> None:
    async with request_thread():
        assert await sync_to_async(Service.objects.count)() == 2
        assert await sync_to_async(lambda: connection.connection)() is None

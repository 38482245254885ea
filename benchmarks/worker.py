"""A process of a benchmark that does as it is told: one JSON line in, one out.

    python -m benchmarks.worker

Times are CLOCK_MONOTONIC, in seconds, which all processes of a machine share.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import django

from benchmarks.servers import ROOT

if TYPE_CHECKING:
    from benchmarks.locks import Lock

THREADS = 100


class Worker:
    """What the process can be told."""

    def __init__(self) -> None:
        self._locks: dict[str, Lock] = {}

    def prepare(self, *names: str) -> bool:
        """Make these locks, so that nothing is left to load or to connect."""
        for name in names:
            self._lock(name)
        return True

    def pairs(self, name: str, count: int) -> list[float]:
        """Take the lock and give it back; seconds for each time."""
        lock = self._lock(name)
        took = []
        for _ in range(count):
            begun = monotonic()
            lock.acquire()
            lock.release()
            took.append(monotonic() - begun)
        return took

    def renewals(self, name: str, leases: int, count: int) -> list[float]:
        """Seconds for each heartbeat of a process that holds so many leases."""
        from benchmarks.heartbeats import timed  # noqa: PLC0415

        return timed(name, leases, count)

    def take(self, name: str) -> float:
        """The moment when the lock was had."""
        self._lock(name).acquire()
        return monotonic()

    def give(self, name: str) -> float:
        """The moment before the lock was given back."""
        begun = monotonic()
        self._lock(name).release()
        return begun

    def contend(self, name: str, tasks: int, start: float, seconds: float, work: float) -> dict[str, Any]:
        """Take the lock again and again from `start` on; for each caller, when it had asked for it and when
        it had it, and the tries of all."""
        if tasks == 1:
            lock = self._lock(name)
            before = lock.tries
            return {"callers": [_contend(lock, start, seconds, work)], "tries": lock.tries - before}
        return asyncio.run(_contend_all(name, tasks, start, seconds, work))

    def _lock(self, name: str) -> "Lock":
        from benchmarks.locks import LOCKS  # noqa: PLC0415

        if name not in self._locks:
            self._locks[name] = LOCKS[name]()
        return self._locks[name]


def _contend(lock: "Lock", start: float, seconds: float, work: float) -> list[tuple[float, float]]:
    turns = []
    sleep(max(start - monotonic(), 0))
    while (asked := monotonic()) < start + seconds:
        lock.acquire()
        turns.append((asked, monotonic()))
        sleep(work)
        lock.release()
    return turns


async def _contend_all(name: str, tasks: int, start: float, seconds: float, work: float) -> dict[str, Any]:
    from benchmarks.locks import WAITING_LOCKS  # noqa: PLC0415

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    locks = [WAITING_LOCKS[name]() for _ in range(tasks)]
    await asyncio.gather(*(lock.open() for lock in locks))

    async def contend(lock: Any) -> list[tuple[float, float]]:
        turns = []
        await asyncio.sleep(max(start - monotonic(), 0))
        while (asked := monotonic()) < start + seconds:
            await lock.acquire()
            turns.append((asked, monotonic()))
            await asyncio.sleep(work)
            await lock.release()
        return turns

    turns = await asyncio.gather(*(contend(lock) for lock in locks))
    for lock in locks:
        await lock.close()
    return {"callers": turns, "tries": sum(lock.tries for lock in locks)}


class Hand:
    """A worker as the benchmark sees it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, verb: str, *arguments: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("A process of the benchmark has ended; what it said stands above.")
        return json.loads(line)

    def ask(self, verb: str, *arguments: object) -> Any:
        self.tell(verb, *arguments)
        return self.answer()

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


@contextmanager
def hands(number: int, environment: Mapping[str, str]) -> Iterator[Sequence[Hand]]:
    """So many workers, which end with the block."""
    with ExitStack() as stack:
        working = [Hand(environment) for _ in range(number)]
        for hand in working:
            stack.callback(hand.end)
        yield working


def main() -> None:
    django.setup()
    worker = Worker()
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        method: Callable[..., Any] = getattr(worker, verb)
        print(json.dumps(method(*arguments)), flush=True)


if __name__ == "__main__":
    main()

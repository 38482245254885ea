"""What the processes do whose database, connection or clock fails them.

    python -m tests.faults.outages FUNCTION JSON

calls one of the functions below with the JSON object's values. Lines on its standard input tell it to go
on, and it answers each with a line of JSON. Times are CLOCK_MONOTONIC, which all processes share.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import django

from tests.database import start_python
from tests.faults.engine import use, use_async
from tests.faults.history import Operation, Recorder
from tests.faults.workers import LLM, take_turns


class Worker:
    """One such process, and the lines that it and the test say to each other."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.pid: int = process.pid

    def tell(self, line: str = "") -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        assert line, f"process {self.pid} ended without an answer, with code {self.process.wait()}"
        said: dict[str, Any] = json.loads(line)
        return said

    def ask(self, line: str = "") -> dict[str, Any]:
        self.tell(line)
        return self.hear()


@contextmanager
def worker(function: str, *, environment: dict[str, str], **arguments: Any) -> Iterator[Worker]:
    """A process that calls `function`; gone with the block, whatever it does then."""
    process = start_python("tests.faults.outages", function, json.dumps(arguments), **environment)
    try:
        yield Worker(process)
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Look again and again until it is so; fail when it does not come."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, f"{what}: not within {seconds} s"
        sleep(0.005)


def say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def heard() -> bool:
    """Wait for a line; False when there will be none."""
    return sys.stdin.readline() != ""


def hand_over(*, owner: str) -> None:
    """On a line, queue for the lease and say when it came; on the next, give it back and say when."""
    from django.db import connection

    from leases.holding import hold

    while heard():
        with hold(LLM, owner, wait=60) as held:
            say(at=monotonic(), token=held.grant.fencing_token)
            heard()
            began = monotonic()
        say(at=began)
        connection.close()


def speak_verbs(*, owner: str) -> None:
    """Call the verb that each line names, and answer with what came of it."""
    from django.db import DatabaseError

    from leases import mutex

    grant: mutex.Grant | None = None
    ticket: mutex.Ticket | None = None
    for number, line in enumerate(sys.stdin):
        said: dict[str, Any] = {}
        try:
            match line.strip():
                case "acquire":
                    grant = mutex.try_acquire(LLM, owner)
                    said = asdict(grant) if grant is not None else {}
                case "renew":
                    assert grant is not None
                    said = {"remaining": mutex.renew(grant)}
                case "release":
                    assert grant is not None
                    said = {"released": mutex.release(grant), "fate": mutex.fate(grant)}
                case "enqueue":
                    ticket = mutex.enqueue(LLM, owner, f"{owner} {number}")
                    said = asdict(ticket)
                case "claim":
                    assert ticket is not None
                    grant = mutex.claim(ticket)
                    said = asdict(grant) if grant is not None else {}
        except DatabaseError as error:
            said = {"error": type(error).__name__, "message": str(error)}
        say(**said)


def take_one_turn(*, owner: str) -> None:
    """On each line one whole turn through the queue, and how it ended."""
    from django.db import DatabaseError, connection

    from leases.exceptions import LeaseError
    from leases.holding import hold

    while heard():
        error = ""
        try:
            with hold(LLM, owner, wait=20):
                sleep(0.7)  # long enough for one heartbeat
        except (DatabaseError, LeaseError) as raised:
            error = type(raised).__name__
        with suppress(DatabaseError):
            connection.close()
        say(error=error)


def hold_until_told(*, owner: str, directory: str, port: int) -> None:
    """Take the lease and use the engine, until a line comes or the lease is lost; say which."""
    from leases.exceptions import LeaseLost
    from leases.holding import ahold

    Recorder(directory).watch_mutex()

    async def work() -> str:
        try:
            async with ahold(LLM, owner) as held:
                say(at=monotonic(), token=held.grant.fencing_token)
                using = asyncio.ensure_future(use_async(port, held.grant.fencing_token, 600))
                try:
                    await asyncio.to_thread(heard)
                finally:
                    using.cancel()
        except LeaseLost as lost:
            return lost.outcome
        return "released"

    say(ended=asyncio.run(work()), at=monotonic())


def keep_on(number: int, *, directory: str, port: int, work: float, **_: Any) -> None:
    """Take turns for as long as the file `go on` is there, whatever fails; every other one is a coroutine."""
    from django.db import DatabaseError, connection

    from leases.exceptions import LeaseError
    from leases.holding import ahold, hold
    from leases.turn import Turn

    recorder = Recorder(directory)
    recorder.watch_mutex()
    owner = f"process {number}"

    def take_turn() -> None:
        with hold(LLM, owner, wait=60) as held:
            until = monotonic() + work
            while monotonic() < until:
                held.activity()
                use(port, held.grant.fencing_token, 0.01)

    async def take_turn_async() -> None:
        async with ahold(LLM, owner, Turn(wait=60)) as held:
            await use_async(port, held.grant.fencing_token, work)

    while (Path(directory) / "go on").exists():
        failure = ""
        began = monotonic()
        try:
            if number % 2:
                take_turn()
            else:
                asyncio.run(take_turn_async())
        except (DatabaseError, LeaseError) as error:
            failure = type(error).__name__
            sleep(0.01)
        recorder.write(
            Operation(os.getpid(), "turn", began, monotonic(), ok=not failure, owner=owner, error=failure)
        )
        with suppress(DatabaseError):
            connection.close()


def take_turns_by_a_clock(number: int, *, directory: str, first: int, **arguments: Any) -> None:
    """Take turns, and note meanwhile how far this process's clock is off."""
    offsets = []
    done = threading.Event()

    def look_at_the_clock() -> None:
        while not done.wait(0.02):
            offsets.append(time() - monotonic())

    looking = threading.Thread(target=look_at_the_clock)
    looking.start()
    try:
        take_turns(first + number, directory=directory, **arguments)
    finally:
        done.set()
        looking.join()
    (Path(directory) / f"{os.getpid()}.clock").write_text(json.dumps(offsets))


def hold_by_a_clock(*, service: str, owner: str, directory: str) -> None:
    """On a line take the lease, say how far this process's clock is off, and keep the lease."""
    from leases.holding import hold

    Recorder(directory).watch_mutex()
    heard()
    with hold(service, owner):
        say(offset=time() - monotonic())
        heard()


if __name__ == "__main__":
    django.setup()
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))

"""What the holders of the fault suite do: some die, some are stopped, some are not who they say they are.

    python -m tests.faults.holders FUNCTION JSON

Such a scripted process tells what it has done, a JSON object a line, and goes on when its parent says so.
The functions that take a number run in a `crowd`.
"""

import asyncio
import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from signal import SIGINT, default_int_handler, signal
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import django

from tests.database import start_python
from tests.faults.conftest import FAST
from tests.faults.engine import use
from tests.faults.history import Operation, Recorder, recording

LLM = "lightweight-llm"

Mutation = tuple[str, str, str]
"""A statement's name, a pattern that occurs in it once, and what stands there instead."""


class Script:
    """A scripted process, seen from its parent."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.pid: int = process.pid

    def tell(self, **message: Any) -> None:
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        assert line, "the process ended before it answered"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **message: Any) -> dict[str, Any]:
        self.tell(**message)
        return self.hear()

    def wait(self, seconds: float) -> int:
        """Its exit code, once it has ended."""
        self._process.communicate(timeout=seconds)
        code: int = self._process.returncode
        return code


@contextmanager
def script(function: str, *, environment: dict[str, str] | None = None, **arguments: Any) -> Iterator[Script]:
    """Start `function(**arguments)` of this module in a process that is gone, by its pid, with the block."""
    process = start_python(
        "tests.faults.holders", function, json.dumps(arguments), **FAST, **(environment or {})
    )
    try:
        yield Script(process)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def told() -> dict[str, Any]:
    """The next line of the parent; the process ends with its parent."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(3)
    message: dict[str, Any] = json.loads(line)
    return message


def mutate(mutations: Sequence[Mutation]) -> None:
    """Change statements in this process only."""
    from django.db import connection

    from leases.statements import STATEMENTS

    statements = STATEMENTS[connection.vendor]
    for name, condition, replacement in mutations:
        text, count = re.subn(condition, replacement, getattr(statements, name))
        assert count == 1, f"the mutant of {name} does not apply: the statement has changed"
        setattr(statements, name, text)


def watch(directory: str) -> Recorder:
    """Write down the verbs of this process, those that grant without being asked for it too."""
    from leases import mutex

    recorder = Recorder(directory)
    recorder.watch_mutex()
    for name in ("advance", "confirm"):
        setattr(mutex, name, recorder.wrap(name, getattr(mutex, name), lambda done: {"ok": done}))
    return recorder


# Who is killed


def hold_until_killed(number: int, *, directory: str, port: int, **_: Any) -> None:
    """Queue for the lease and use the engine under it until this process is killed or interrupted."""
    from leases.holding import hold

    watch(directory)
    signal(SIGINT, default_int_handler)  # which the jobs in a shell's background ignore
    with suppress(KeyboardInterrupt), hold(LLM, f"process {number}", wait=600) as held:
        use(port, held.grant.fencing_token, 600)


# Who is stopped


def hold_as_told(*, service: str, owner: str, wait: float | None = None) -> None:
    """Hold the lease; `write` under it, try everything `late`, or be `done`."""
    from leases.exceptions import LeaseLost
    from leases.holding import hold

    lost = None
    try:
        with hold(service, owner, wait=wait) as held:
            say(token=held.grant.fencing_token)
            while (command := told()["do"]) != "done":
                if command == "write":
                    say(written=_write(held, owner))
                elif command == "late":
                    say(**_try_everything(held, owner))
    except LeaseLost as error:
        lost = error.outcome
    say(lost=lost)


def _write(held: Any, name: str) -> bool:
    """A row written under the lease, or LeaseLost and no row."""
    from django.contrib.auth.models import Group

    from leases.exceptions import LeaseLost

    try:
        with held.fenced():
            Group.objects.create(name=name)
    except LeaseLost:
        return False
    return True


def _try_everything(held: Any, owner: str) -> dict[str, Any]:
    """Which calls of a holder were tried, and which of them were accepted."""
    from leases import mutex
    from leases.exceptions import LeaseLost
    from leases.models import Outcome

    def active() -> bool:
        try:
            held.activity()
        except LeaseLost:
            return False
        return True

    grant = held.grant
    calls: dict[str, Callable[[], bool]] = {
        "fenced write": lambda: _write(held, f"{owner}, late, {uuid4().hex}"),
        "renew": lambda: mutex.renew(grant) is not None,
        "confirm": lambda: mutex.confirm(grant),
        "release": lambda: mutex.release(grant),
        "release as expired": lambda: mutex.release(grant, ended_as=Outcome.EXPIRED),
        "force_release": lambda: mutex.force_release(grant.service_id, grant.session_id, by=owner, reason=""),
        "activity": active,
    }
    tried = 0
    accepted = []
    for _ in range(3):
        for name, call in calls.items():
            tried += 1
            if call():
                accepted.append(name)
    return {"tried": tried, "accepted": accepted}


# Who has a transaction open


def hold_beside_transaction(*, service: str, owner: str, seconds: float, wait: float | None = None) -> None:
    """Open a transaction, and `seconds` later try the synchronous verbs in it and `ahold` beside it."""
    asyncio.run(_hold_beside_transaction(service, owner, seconds, wait))


async def _hold_beside_transaction(service: str, owner: str, seconds: float, wait: float | None) -> None:
    from asgiref.sync import sync_to_async
    from django.contrib.auth.models import Group
    from django.db import connection, transaction

    from leases.holding import ahold
    from leases.models import Lease
    from leases.turn import Turn

    atomic = transaction.atomic()

    def begin() -> None:
        atomic.__enter__()
        Group.objects.create(name="of the transaction")

    def roll_back() -> None:
        transaction.set_rollback(True)
        atomic.__exit__(None, None, None)

    granted = asyncio.Event()
    done = asyncio.Event()

    async def work() -> None:
        invoked = time.time()
        async with ahold(service, owner, Turn(wait=wait)) as held:
            row = await Lease.objects.aget(service=service)
            looked = time.time()  # afterwards, as a heartbeat may have come before the look
            assert row.started_at is not None
            assert row.expires_at is not None
            say(
                token=held.grant.fencing_token,
                in_transaction=await sync_to_async(lambda: connection.in_atomic_block)(),
                left=row.expires_at.timestamp() - looked,
                started_after=row.started_at.timestamp() - invoked,
            )
            granted.set()
            await done.wait()

    # On SQLite a transaction keeps every other writer out, so that the lease has to wait for its end.
    exclusive = connection.vendor == "sqlite"
    await sync_to_async(begin)()
    working = asyncio.ensure_future(work()) if exclusive else None
    await asyncio.sleep(seconds)
    say(refused=await sync_to_async(_try_verbs)(service, owner))
    await asyncio.to_thread(told)
    if working is None:
        working = asyncio.ensure_future(work())
        await asyncio.wait(
            {working, waiting := asyncio.ensure_future(granted.wait())}, return_when="FIRST_COMPLETED"
        )
        waiting.cancel()
        await asyncio.to_thread(told)
    await sync_to_async(roll_back)()
    say(rolled_back=True)
    await asyncio.to_thread(told)
    done.set()
    await working
    say(released=True)


def _try_verbs(service: str, owner: str) -> dict[str, str]:
    """What each synchronous verb says in the transaction that is open."""
    from leases import mutex
    from leases.exceptions import LeaseError
    from leases.holding import hold

    def held(wait: float | None) -> None:
        with hold(service, owner, wait=wait):
            pass

    grant = mutex.Grant(service, uuid4().hex, owner, 1, 2.0, 300.0)
    ticket = mutex.Ticket(1, service, owner, uuid4().hex, ttl=2.0)
    calls: dict[str, Callable[[], object]] = {
        "try_acquire": lambda: mutex.try_acquire(service, owner),
        "acquire": lambda: mutex.acquire(service, owner),
        "hold": lambda: held(None),
        "hold with a wait": lambda: held(5.0),
        "enqueue": lambda: mutex.enqueue(service, owner, uuid4().hex),
        "advance": lambda: mutex.advance(service),
        "claim": lambda: mutex.claim(ticket),
        "leave": lambda: mutex.leave(ticket),
        "renew": lambda: mutex.renew(grant),
        "release": lambda: mutex.release(grant),
    }
    verdicts = {}
    for name, call in calls.items():
        try:
            call()
        except (LeaseError, RuntimeError) as error:
            verdicts[name] = type(error).__name__
        else:
            verdicts[name] = "accepted"
    return verdicts


def hold_inside_transaction(*, service: str, owner: str) -> None:
    """Wait with `ahold` for a lease that cannot come before the caller's own transaction has ended."""
    from asgiref.sync import sync_to_async
    from django.db import DatabaseError, transaction

    from leases.holding import ahold

    async def call() -> str:
        atomic = transaction.atomic()
        await sync_to_async(atomic.__enter__)()
        try:
            async with ahold(service, owner):
                return "granted"
        except DatabaseError as error:
            return type(error).__name__
        finally:
            await sync_to_async(atomic.__exit__)(None, None, None)

    say(came_to=asyncio.run(call()))


# Who races for a lease that expires


def until(moment: float) -> None:
    """Come back at this moment of the wall clock, by which the database of the same machine decides."""
    sleep(max(moment - time.time() - 0.002, 0.0))
    while time.time() < moment:
        pass


def renew_at_expiry(*, ttl: float, life: float) -> None:
    """Take a lease that has `life` seconds left of its TTL and renew it at the given moment."""
    from leases import mutex
    from leases.models import Lease
    from tests.leases.clock import let_pass

    while True:
        told()
        grant = mutex.try_acquire(LLM, "holder")
        assert grant is not None
        let_pass(ttl - life, LLM)
        expires_at = Lease.objects.get(service=LLM).expires_at
        assert expires_at is not None
        say(expires_at=expires_at.timestamp(), token=grant.fencing_token)
        moment = told()["at"]
        until(moment)
        invoked = time.time()
        won = mutex.renew(grant) is not None
        say(won=won, late=invoked - moment)
        told()
        say(confirmed=mutex.confirm(grant), released=mutex.release(grant))


def take_at_expiry(*, queued: bool, mutations: Sequence[Mutation] = ()) -> None:
    """Try to take the lease at the given moment, as a newcomer or out of the queue; `again` if told so."""
    from leases import mutex

    mutate(mutations)
    while True:
        command = told()
        ticket = mutex.enqueue(LLM, "contender", uuid4().hex) if queued else None
        moment = command["at"]
        until(moment)
        invoked = time.time()
        grant = _take(ticket)
        say(won=grant is not None, token=grant and grant.fencing_token, late=invoked - moment)
        if told()["again"]:
            grant = _take(ticket) or grant
        say(won=grant is not None, token=grant and grant.fencing_token)
        told()
        if ticket is not None:
            mutex.leave(ticket)
        say(released=grant is not None and mutex.release(grant))


def _take(ticket: Any) -> Any:
    from leases import mutex

    if ticket is None:
        return mutex.try_acquire(LLM, "contender")
    mutex.advance(LLM)
    return mutex.claim(ticket)


# Crowds whose statements may lack a condition


def come_at_random(
    number: int, *, directory: str, port: int, cycles: int, work: float, mutations: list[Mutation], **_: Any
) -> None:
    """Newcomers only: each tries until it has the lease, uses the engine, gives it back."""
    from leases import mutex

    mutate(mutations)
    watch(directory)
    deadline = monotonic() + 20
    for _cycle in range(cycles):
        while (grant := mutex.try_acquire(LLM, f"process {number}")) is None:
            assert monotonic() < deadline, "the lease never came"
            sleep(random.random() * 0.002)
        use(port, grant.fencing_token, work)
        mutex.release(grant)


def queue_up(
    number: int, *, directory: str, port: int, cycles: int, work: float, mutations: list[Mutation], **_: Any
) -> None:
    """Queue for the lease, use the engine under it, give it back, whatever goes wrong on the way."""
    from leases.exceptions import LeaseError
    from leases.holding import hold

    mutate(mutations)
    watch(directory)
    for _cycle in range(cycles):
        with suppress(LeaseError), hold(LLM, f"process {number}", wait=20) as held:
            use(port, held.grant.fencing_token, work)


def queue_or_barge(number: int, **arguments: Any) -> None:
    """The first two never queue and try all the time; the others queue."""
    (come_at_random if number < 2 else queue_up)(number, **arguments)


def work_or_forge(number: int, *, verb: str, **arguments: Any) -> None:
    """Two work; the third presents the current grant, with one thing wrong in it, until they are done."""
    if number < 2:
        come_at_random(number, **arguments)
        return
    from leases import mutex
    from leases.models import Hold, Lease

    mutate(arguments["mutations"])
    recorder = Recorder(arguments["directory"])
    call: Callable[[mutex.Grant], object] = getattr(mutex, verb)
    deadline = monotonic() + 20
    while Hold.objects.count() < 2 * arguments["cycles"]:
        assert monotonic() < deadline, "the others were never done"
        sleep(0.001)
        row = Lease.objects.get(service=LLM)
        if row.session_id is None:
            continue
        grant = mutex.Grant(LLM, row.session_id, row.owner, row.fencing_token, row.ttl, row.idle_timeout)
        for wrong in (
            replace(grant, session_id=uuid4().hex),
            replace(grant, owner="somebody else"),
            replace(grant, fencing_token=grant.fencing_token - 1),
        ):
            operation = Operation(0, f"forged {verb}", 0.0, owner=wrong.owner, token=wrong.fencing_token)
            with recording(operation, recorder):
                operation.ok = call(wrong) not in (None, False)


def wake_up_late(
    number: int, *, directory: str, cycles: int, ttl: float, mutations: list[Mutation], **_: Any
) -> None:
    """A holder, alone on its service, that sleeps through its expiry and then goes on as if it held."""
    from django.db import transaction

    from leases import mutex

    mutate(mutations)
    watch(directory)
    for _cycle in range(cycles):
        grant = mutex.try_acquire(LLM, f"process {number}")
        assert grant is not None
        sleep(ttl * 1.2)
        with transaction.atomic():
            mutex.confirm(grant)
        mutex.renew(grant)
        mutex.release(grant)


def share_an_owner(
    number: int,
    *,
    directory: str,
    port: int,
    cycles: int,
    work: float,
    ttl: float,
    mutations: list[Mutation],
    **_: Any,
) -> None:
    """One owner in several processes; the first sleeps through its expiry, and gives back what it had as
    soon as another has followed."""
    from leases import mutex
    from leases.exceptions import LeaseError
    from leases.holding import hold
    from leases.models import Lease

    mutate(mutations)
    watch(directory)
    done = Path(directory) / "done"
    deadline = monotonic() + 60  # two others ask for it all the time, and nobody queues
    if number > 0:
        while not done.exists() and monotonic() < deadline:
            with suppress(LeaseError), hold(LLM, "ann") as held:
                use(port, held.grant.fencing_token, work)
            sleep(0.005)
        return
    for _cycle in range(cycles):
        while (grant := mutex.try_acquire(LLM, "ann")) is None:
            assert monotonic() < deadline, "the lease never came"
            sleep(0.002)
        sleep(ttl)
        while not Lease.objects.filter(fencing_token__gt=grant.fencing_token).exists():
            assert monotonic() < deadline, "nobody followed"
            sleep(0.002)
        mutex.release(grant)
        sleep(work)  # for what comes of it: the third must have the lease if it can be had
    done.touch()


def main(function: str, arguments: dict[str, Any]) -> None:
    django.setup()
    globals()[function](**arguments)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))

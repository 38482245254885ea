"""What each process did, when: one JSON line an operation, written before the next one begins."""

import json
import os
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from time import monotonic
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Operation:
    """`invoked` and `returned` by CLOCK_MONOTONIC; `returned` is None if the process did not live to see it.

    `ok` is the verdict: granted, enqueued, renewed, released, written. `error` names an exception.
    """

    process: int
    name: str
    invoked: float
    returned: float | None = None
    ok: bool = False
    owner: str = ""
    ticket: int | None = None
    token: int | None = None
    error: str = ""


class Recorder:
    """Writes one process's operations to a file of its own below `directory`."""

    def __init__(self, directory: Path | str) -> None:
        self._directory = Path(directory)

    def write(self, operation: Operation) -> None:
        line = json.dumps(asdict(operation)) + "\n"
        with (self._directory / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(line)

    def wrap(
        self, name: str, function: Callable[P, T], describe: Callable[[T], dict[str, Any]]
    ) -> Callable[P, T]:
        """The same function, each call written down; `describe` tells `ok`, `token` … of its result."""

        @wraps(function)
        def recorded(*args: P.args, **kwargs: P.kwargs) -> T:
            operation = Operation(os.getpid(), name, monotonic())
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                operation.returned, operation.error = monotonic(), type(error).__name__
                self.write(operation)
                raise
            operation.returned = monotonic()
            for key, value in describe(result).items():
                setattr(operation, key, value)
            self.write(operation)
            return result

        return recorded

    def watch_mutex(self) -> None:
        """Write down every verb that this process calls, whoever calls it. The verbs themselves are real."""
        from django.db import connection

        from leases import mutex

        def granted(grant: mutex.Grant | None) -> dict[str, Any]:
            if grant is None:
                return {}
            return {"ok": True, "token": grant.fencing_token, "owner": grant.owner}

        def queued(ticket: mutex.Ticket) -> dict[str, Any]:
            return {"ok": True, "ticket": ticket.id, "owner": ticket.owner}

        for name, describe in {
            "try_acquire": granted,
            "claim": granted,
            "enqueue": queued,
            "renew": lambda left: {"ok": left is not None},
            "release": lambda released: {"ok": released},
            "leave": lambda _: {"ok": True},
            "step_aside": lambda _: {"ok": True},
        }.items():
            setattr(mutex, name, self.wrap(name, getattr(mutex, name), describe))  # type: ignore[arg-type]
        # A process that is watched holds one lease at a time: a heartbeat for all is a renewal of that.
        mutex.renew_all = self.wrap("renew", mutex.renew_all, lambda kept: {"ok": bool(kept)})
        if connection.vendor == "postgresql":  # elsewhere it calls try_acquire
            mutex.acquire = self.wrap("try_acquire", mutex.acquire, granted)


@contextmanager
def recording(operation: Operation, recorder: Recorder) -> Any:
    """A block as one operation; set `ok` inside it."""
    operation.invoked = monotonic()
    try:
        yield operation
    except BaseException as error:
        operation.error = type(error).__name__
        raise
    finally:
        operation.returned = monotonic()
        recorder.write(operation)


def read(directory: Path) -> list[Operation]:
    """All operations of all processes, by the moment they were invoked."""
    operations = [
        Operation(**json.loads(line))
        for file in directory.glob("*.jsonl")
        for line in file.read_text().splitlines()
        if line.endswith("}")  # a killed process may leave half a line
    ]
    return sorted(operations, key=lambda operation: operation.invoked)


def named(history: Iterable[Operation], *names: str) -> list[Operation]:
    return [operation for operation in history if operation.name in names]

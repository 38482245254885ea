"""Application hosts whose clocks are an hour off, or jump. Only the database's clock decides about leases."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep, time

import pytest
from django.db import connection

from leases import mutex
from leases.models import Hold
from tests.faults.checkers import exclusion, grants, order
from tests.faults.conftest import FAST, Figure
from tests.faults.crowd import crowd
from tests.faults.engine import running_engine
from tests.faults.history import Operation, named, read
from tests.faults.outages import Worker, wait_until, worker

LIBRARY = next(
    (
        str(path)
        for folder in ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")
        for path in sorted(Path(folder).glob("**/faketime/libfaketimeMT.so.1"))
    ),
    None,
)
pytestmark = [
    pytest.mark.usefixtures("leases"),
    pytest.mark.skipif(
        connection.vendor == "sqlite",
        reason="SQLite reads the clock of the process that asks it: the host's clock is the database's",
    ),
    pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed"),
]

SEED = 23
HOUR = 3600.0
SERVICES = ("lightweight-llm", "vector-convert")
TTL = float(FAST["LEASE_TTL"])
STEADY = {"right": 0, "an hour ahead": 1, "an hour behind": -1}


def steady(hours: int) -> dict[str, str]:
    """The setting of a clock that is so far off."""
    return {"FAKETIME": f"{hours * HOUR:+.0f}s"}


# The library's clock_nanosleep fails with EINVAL when it is to leave the monotonic clock alone.
SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


@pytest.fixture
def preloaded(tmp_path: Path) -> dict[str, str]:
    """The settings of a process whose clock can be set; its monotonic clock stays what it is."""
    directory = tmp_path / "site"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(SLEEP)
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": str(directory),
    }


@contextmanager
def jumping(directory: Path) -> Iterator[dict[str, str]]:
    """The setting of a clock that jumps by one or two hours, several times a second."""
    file, next_file = directory / "offset", directory / "next offset"
    done = threading.Event()

    def jump() -> None:
        offsets = ("+0s", "+3600s", "-3600s")
        number = 0
        while not done.wait(0.15):
            number += 1
            next_file.write_text(f"{offsets[number % 3]}\n")
            next_file.replace(file)

    file.write_text("+0s\n")
    thread = threading.Thread(target=jump, daemon=True)
    thread.start()
    try:
        yield {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
    finally:
        done.set()
        thread.join()


def test_processes_with_wrong_clocks_take_turns(
    tmp_path: Path, preloaded: dict[str, str], figure: Figure, full: bool
) -> None:
    processes, cycles = (8, 50) if full else (2, 10)
    history_of = tmp_path / "history"
    history_of.mkdir()
    here = time() - monotonic()
    with ExitStack() as stack:
        engine = stack.enter_context(running_engine())
        jumps = stack.enter_context(jumping(tmp_path))
        clocks = [*(preloaded | steady(hours) for hours in STEADY.values()), preloaded | jumps]
        groups = [
            stack.enter_context(
                crowd(
                    "tests.faults.outages:take_turns_by_a_clock",
                    processes,
                    environment=FAST | clock,
                    directory=str(history_of),
                    port=engine.port,
                    first=number * processes,
                    cycles=cycles,
                    seed=SEED + number,
                )
            )
            for number, clock in enumerate(clocks)
        ]
        for group in groups:
            group.go()
        codes = [code for group in groups for code in group.wait(300)]
        pids = [group.pids for group in groups]
    history = read(history_of)
    violations = exclusion(engine.calls) + grants(history) + order(history)
    everybody = processes * len(groups)
    figure(
        f"{everybody} processes of {cycles} cycles, a quarter each right, an hour ahead, an hour behind and "
        f"jumping, seed {SEED}: {len(engine.calls)} turns, {len(violations)} violations"
    )
    assert codes == [0] * everybody
    assert violations == []
    off = [{off_by(history_of, pid, here) for pid in group} for group in pids]
    jumped = [len(hours) for hours in off[3]]
    assert len(engine.calls) == everybody * cycles
    assert Hold.objects.filter(outcome="released").count() == everybody * cycles
    assert off[:3] == [{frozenset({hours})} for hours in STEADY.values()]
    assert min(jumped) > 1, "a clock that was to jump did not"


def off_by(directory: Path, pid: int, here: float) -> frozenset[int]:
    """By how many hours the process's clock was off while it took its turns."""
    offsets = json.loads((directory / f"{pid}.clock").read_text())
    return frozenset(round((offset - here) / HOUR) for offset in offsets)


def test_a_killed_holder_with_a_wrong_clock_expires_after_its_ttl(
    tmp_path: Path, preloaded: dict[str, str], figure: Figure, full: bool
) -> None:
    """From its last heartbeat to the moment that somebody else, by a clock of his own, gets the lease."""
    lasted: dict[str, list[float]] = {}
    with ExitStack() as stack:
        jumps = stack.enter_context(jumping(tmp_path))
        clocks = {name: preloaded | steady(hours) for name, hours in STEADY.items()}
        clocks["jumping"] = preloaded | jumps
        holders: list[Holder] = []
        for name in [*clocks] * (5 if full else 2):
            service = SERVICES[len(holders) % len(SERVICES)]
            directory = tmp_path / f"{len(holders)}"
            directory.mkdir()
            starting = worker(
                "hold_by_a_clock",
                environment=FAST | clocks[name],
                service=service,
                owner=name,
                directory=str(directory),
            )
            holders.append(Holder(service, name, stack.enter_context(starting), directory))
        observing = stack.enter_context(ThreadPoolExecutor(len(SERVICES)))
        seen = [
            observing.submit(observe, [holder for holder in holders if holder.service == service])
            for service in SERVICES
        ]
        for name, seconds in (life for one in seen for life in one.result(200)):
            lasted.setdefault(name, []).append(seconds)
    figure(
        f"a killed holder's lease of {TTL:.0f} s lasted "
        + ", ".join(f"{min(times):.3f} to {max(times):.3f} s ({name})" for name, times in lasted.items())
    )
    for times in lasted.values():
        assert min(times) > TTL - 0.05, "before its time"
        assert min(times) < TTL + 0.25, "a busy machine may look late, but not each time"


@dataclass
class Holder:
    service: str
    owner: str
    worker: Worker
    directory: Path


def observe(holders: list[Holder]) -> list[tuple[str, float]]:
    """How long the lease of each outlived it, one after another."""
    try:
        return [(holder.owner, life_after_death(holder)) for holder in holders]
    finally:
        connection.close()


def life_after_death(holder: Holder) -> float:
    """How long a killed holder's lease outlived its last heartbeat."""

    def beats() -> list[Operation]:
        return [one for one in named(read(holder.directory), "renew") if one.ok]

    offset = holder.worker.ask()["offset"] - (time() - monotonic())
    assert holder.owner == "jumping" or round(offset / HOUR) == STEADY[holder.owner]
    wait_until(beats, 20, "a heartbeat")
    holder.worker.process.kill()  # right after a heartbeat: the next was not yet due
    holder.worker.process.wait()
    last = beats()[-1].invoked
    while (grant := mutex.try_acquire(holder.service, "observer")) is None:
        assert monotonic() - last < 5 * TTL, "the lease does not expire"
        sleep(0.005)
    seconds = monotonic() - last
    assert Hold.objects.filter(owner=holder.owner).latest("ended_at").outcome == "lost"
    assert mutex.release(grant)
    return seconds

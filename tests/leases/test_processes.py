"""What several processes do to one lease."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest

from leases import mutex
from leases.exceptions import ServiceBusy
from leases.models import Hold, Lease
from tests.database import start_python

pytestmark = pytest.mark.usefixtures("leases")

LLM = "lightweight-llm"
PROCESSES, CYCLES = 4, 25

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes that are gone, by their pids, when the test is."""
    with ExitStack() as stack:

        def start(module: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
            process = stack.enter_context(start_python(module, *arguments, **environment))
            stack.callback(process.kill)
            return process

        yield start


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def overlaps(history: list[dict[str, float]]) -> int:
    ordered = sorted(history, key=lambda grant: grant["begun"])
    return sum(later["begun"] < earlier["ended"] for earlier, later in pairwise(ordered))


def test_of_many_processes_one_at_a_time_holds_the_lease(start: Start) -> None:
    processes = [start("tests.leases.contender", f"process {n}", str(CYCLES)) for n in range(PROCESSES)]
    for process in processes:
        assert line(process) == "ready"
    for process in processes:
        tell(process)
    history = [
        json.loads(row) for process in processes for row in process.communicate(timeout=120)[0].splitlines()
    ]
    assert len(history) == PROCESSES * CYCLES
    assert overlaps(history) == 0
    in_time = sorted(history, key=lambda grant: grant["begun"])
    tokens = [grant["token"] for grant in in_time]
    assert tokens == list(range(tokens[0], tokens[0] + len(tokens)))
    assert all(grant["released"] for grant in history)
    holds = Hold.objects.filter(service=LLM)
    assert holds.count() == len(history)
    assert set(holds.values_list("outcome", flat=True)) == {"released"}


def test_the_check_for_overlaps_can_fail() -> None:
    assert overlaps([{"begun": 1, "ended": 3}, {"begun": 2, "ended": 4}]) == 1


def test_a_lease_outlives_a_restart_of_everybody_else(start: Start) -> None:
    holder = start("tests.leases.holder", "ann")
    line(holder)
    for _ in range(2):  # each is a new process that knows nothing but the database
        other = start("tests.leases.holder", "bob")
        assert line(other) == ""
        assert other.wait(30) != 0
    tell(holder)
    assert holder.wait(30) == 0
    assert mutex.try_acquire(LLM, "cid") is not None


def test_a_killed_holder_blocks_for_one_ttl_and_not_longer(start: Start) -> None:
    holder = start("tests.leases.holder", "ann", LEASE_TTL="1.5", LEASE_HEARTBEAT="0.3")
    token = int(line(holder))
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    killed = time.monotonic()
    with pytest.raises(ServiceBusy):
        mutex.acquire(LLM, "bob")
    while (grant := mutex.try_acquire(LLM, "bob")) is None:
        assert time.monotonic() - killed < 10
        time.sleep(0.02)
    waited = time.monotonic() - killed
    print(f"a killed holder's lease was free after {waited:.2f} s, its TTL 1.5 s")
    assert waited < 1.5 + 1
    assert grant.fencing_token == token + 1
    assert Hold.objects.get(owner="ann").outcome == "lost"


def test_a_stopped_holder_finds_its_lease_gone_and_leaves_its_successor_alone(start: Start) -> None:
    holder = start("tests.leases.holder", "ann", LEASE_TTL="1", LEASE_HEARTBEAT="0.2")
    line(holder)
    holder.send_signal(signal.SIGSTOP)
    while (grant := mutex.try_acquire(LLM, "bob")) is None:
        time.sleep(0.02)
    holder.send_signal(signal.SIGCONT)
    tell(holder)
    holder.communicate(timeout=30)
    assert holder.returncode == 1  # LeaseLost came out of its hold()
    assert mutex.confirm(grant)
    assert Lease.objects.live().get().owner == "bob"

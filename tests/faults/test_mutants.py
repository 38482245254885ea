"""Real processes whose statements lack a condition: what really happened must show it.

Each scenario runs once as it is, where the checkers find nothing, and once with each mutant, where they must.
`tests.leases.test_mutants` removes conditions one by one inside one process.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models import F
from pytest_django import Settings

from leases import mutex
from leases.models import Hold, Lease, Outcome, Service, Ticket
from tests.faults.checkers import GRANTS, exclusion, grants, order
from tests.faults.conftest import FAST, Figure
from tests.faults.crowd import crowd
from tests.faults.engine import Call, running_engine
from tests.faults.history import Operation, named, read
from tests.faults.holders import Mutation

pytestmark = pytest.mark.usefixtures("leases")

LLM = "lightweight-llm"
TTL = float(FAST["LEASE_TTL"])
TICK = 0.002  # SQLite cuts off what is beyond whole milliseconds
SEED = 23

NOW = r"(?:strftime\([^)]*\)|statement_timestamp\(\))"
FREE = rf"lease\.expires_at <= {NOW}"
NOT_EXPIRED = rf"AND expires_at > {NOW}"
NOBODY_WAITS = rf"AND NOT EXISTS \([^*]*? > {NOW} AND ticket\.process <> ''\)"
TICKET_LIVES = rf"ticket\.expires_at > {NOW} AND "
SOMEBODY_WAITS = r" AND ticket\.process <> ''"
SESSION = r"AND session_id = %\(session_id\)s"
OWNER = r"AND owner = %\(owner\)s"
TOKEN = r"AND fencing_token = %\(fencing_token\)s"

LAST: Mutation = (
    ("release", r"min(?=\(ticket\.id\))", "max")
    if connection.vendor == "sqlite"
    else ("release", r"(?<=ORDER BY ticket\.id)(?= LIMIT)", " DESC")
)


@dataclass(frozen=True)
class Scenario:
    """What a crowd does, and by which missing conditions it must come to harm.

    `service_ttl` is the service's own TTL, if it is not everybody's; `prepare` runs just before the start.
    """

    worker: str
    processes: int
    arguments: Mapping[str, Any]
    mutants: Mapping[str, Sequence[Mutation]]
    service_ttl: float | None = None
    prepare: Callable[[], None] = field(default=lambda: None)

    def run(self, directory: Path, mutations: Sequence[Mutation]) -> tuple[list[str], list[int]]:
        """The violations that the checkers find, and how the processes ended."""
        directory.mkdir()
        Service.objects.update(ttl=self.service_ttl)
        with (
            running_engine() as engine,
            crowd(
                f"tests.faults.holders:{self.worker}",
                self.processes,
                environment=FAST,
                directory=str(directory),
                port=engine.port,
                mutations=mutations,
                seed=SEED,
                **self.arguments,
            ) as group,
        ):
            self.prepare()
            group.go()
            codes = group.wait(60)
        found = violations(read(directory), engine.calls, self.service_ttl or TTL)
        Lease.objects.update(session_id=None, offered_to=None, waiter=None)
        Ticket.objects.all().delete()
        Hold.objects.all().delete()
        return found, codes


def violations(history: Sequence[Operation], calls: Sequence[Call], ttl: float) -> list[str]:
    return [
        *exclusion(calls),
        *grants(history),
        *order(history),
        *overtaken(history),
        *late(history, ttl),
        *forged(history),
        *unclaimed(),
    ]


def overtaken(history: Sequence[Operation]) -> list[str]:
    """No newcomer gets the lease while somebody waits who enqueued before, and is served later."""
    claims = [operation for operation in named(history, "claim") if operation.ok]
    newcomers = [operation for operation in named(history, "try_acquire") if operation.ok]
    found = []
    for ticket in named(history, "enqueue"):
        served = next(
            (
                claim
                for claim in claims
                if claim.process == ticket.process and claim.invoked > ticket.invoked and ticket.ok
            ),
            None,
        )
        if served is None or served.token is None or ticket.returned is None:
            continue
        found += [
            f"ticket {ticket.ticket} (token {served.token}) was overtaken by token {newcomer.token}"
            for newcomer in newcomers
            if ticket.returned < newcomer.invoked and (newcomer.token or 0) < served.token
        ]
    return found


def late(history: Sequence[Operation], ttl: float) -> list[str]:
    """No holder is told that it still holds when its last sign of life is longer ago than a TTL."""
    alive: dict[int, float] = {}
    found = []
    for operation in named(history, *GRANTS, "renew", "confirm"):
        if not operation.ok or operation.returned is None:
            continue
        if operation.name in ("renew", "confirm"):
            over = operation.invoked - alive[operation.process] - ttl
            if over > TICK:
                found.append(f"a holder could {operation.name} {over:.3f} s after its expiry")
        if operation.name != "confirm":
            alive[operation.process] = operation.returned
    return found


def forged(history: Sequence[Operation]) -> list[str]:
    """Nobody but the holder renews or releases."""
    return [
        f"a {operation.name} of token {operation.token} by {operation.owner} was accepted"
        for operation in history
        if operation.name.startswith("forged") and operation.ok
    ]


def unclaimed() -> list[str]:
    """The lease is not handed to anybody who is not there."""
    return [
        f"token {hold.fencing_token} was handed to {hold.owner}, who was not there"
        for hold in Hold.objects.filter(outcome=Outcome.UNCLAIMED)
    ]


def ghosts_wait() -> None:
    """The first in the queue has just left its place for a moment: nobody waits there."""
    mutex.step_aside(mutex.enqueue(LLM, "absent", uuid4().hex))


def ghosts_expire() -> None:
    """The first in the queue has just died: its ticket is there still, and has expired."""
    mutex.enqueue(LLM, "dead", uuid4().hex)
    Ticket.objects.update(expires_at=F("expires_at") - timedelta(seconds=TTL + 0.1))


def holder_dies() -> None:
    """The lease is held by nobody who is there, and expires with a queue before it."""
    mutex.try_acquire(LLM, "dead")


SCENARIOS = {
    "newcomers": Scenario(
        "come_at_random",
        3,
        {"cycles": 5, "work": 0.02},
        {"acquire without the expiry": [("acquire", FREE, "TRUE")]},
    ),
    "a queue": Scenario(
        "queue_up",
        4,
        {"cycles": 6, "work": 0.02},
        {
            "advance without the expiry": [("advance", FREE, "TRUE")],
            "release to the last in the queue": [LAST],
        },
    ),
    "barging": Scenario(
        "queue_or_barge",
        5,
        {"cycles": 2, "work": 0.005},
        {"acquire without the queue": [("acquire", NOBODY_WAITS, "")]},
        prepare=holder_dies,
    ),
    "an absent waiter": Scenario(
        "queue_up",
        3,
        {"cycles": 3, "work": 0.01},
        {"release to a ticket nobody waits on": [("release", SOMEBODY_WAITS, "")]},
        prepare=ghosts_wait,
    ),
    "a dead waiter": Scenario(
        "queue_up",
        3,
        {"cycles": 3, "work": 0.01},
        {"release to an expired ticket": [("release", TICKET_LIVES, "")]},
        prepare=ghosts_expire,
    ),
    "waking up late": Scenario(
        "wake_up_late",
        1,
        {"cycles": 3, "ttl": 0.2},
        {
            "renew without the expiry": [("renew", NOT_EXPIRED, "")],
            "the fence without the expiry": [("confirm", NOT_EXPIRED, "")],
        },
        service_ttl=0.2,
    ),
    "one owner": Scenario(
        "share_an_owner",
        3,
        {"cycles": 3, "work": 0.4, "ttl": 0.8},
        {"release by owner alone": [("release", SESSION, ""), ("release", TOKEN, "")]},
        service_ttl=0.8,
    ),
    **{
        f"forged {verb}": Scenario(
            "work_or_forge",
            3,
            {"cycles": 8, "work": 0.03, "verb": verb},
            {
                f"{verb} without the session": [(verb, SESSION, "")],
                f"{verb} without the owner": [(verb, OWNER, "")],
                f"{verb} without the token": [(verb, TOKEN, "")],
            },
        )
        for verb in ("release", "renew")
    },
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_checkers_catch_a_missing_condition(
    name: str, tmp_path: Path, figure: Figure, settings: Settings
) -> None:
    settings.LEASE_TTL = TTL
    scenario = SCENARIOS[name]
    unharmed, codes = scenario.run(tmp_path / "as it is", [])
    assert unharmed == []
    assert codes == [0] * scenario.processes
    caught = {}
    for mutant, mutations in scenario.mutants.items():
        found, _ = scenario.run(tmp_path / mutant, mutations)
        caught[mutant] = found
    shown = [f"{mutant}: {len(found)}, such as: {(found or '-')[0]}" for mutant, found in caught.items()]
    figure(
        f"mutants caught {sum(map(bool, caught.values()))} of {len(caught)}, seed {SEED}, "
        "0 violations as it is; " + "; ".join(shown)
    )
    assert [mutant for mutant, found in caught.items() if not found] == []

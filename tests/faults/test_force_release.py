"""An operator ends a session while everything else happens to it."""

import asyncio
import json
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from leases import mutex
from leases.models import Hold, Lease
from tests.chat.scripted_engine_server import ScriptedEngineServer
from tests.chat.test_faults import CHAT, site, stop_answering
from tests.chat.test_streams import next_event, streaming
from tests.database import query
from tests.faults.conftest import FAST, Figure
from tests.faults.crowd import crowd
from tests.faults.history import Recorder, named, read

pytestmark = pytest.mark.usefixtures("leases")

LLM = "lightweight-llm"
HEARTBEAT = float(FAST["LEASE_HEARTBEAT"])
VERBS = ("force_release", "force_release", "renew", "release")


def race(number: int, *, directory: str, rounds: int, seed: int) -> None:
    """Each process has its verb, and calls it at the moment that the round names."""
    recorder = Recorder(directory)
    name = VERBS[number]

    def call(grant: mutex.Grant) -> bool:
        if name == "renew":
            return mutex.renew(grant) is not None
        if name == "release":
            return mutex.release(grant)
        return mutex.force_release(LLM, grant.session_id, by=f"operator {number}", reason="stuck")

    for round_ in range(rounds):
        file = Path(directory) / f"round-{round_}"
        while not file.exists():
            time.sleep(0.001)
        told = json.loads(file.read_text())
        grant = mutex.Grant(**told["grant"])
        recorded = recorder.wrap(
            name,
            call,
            lambda ok, grant=grant: {"ok": ok, "token": grant.fencing_token},  # type: ignore[misc]
        )
        while time.monotonic() < told["go"]:
            pass
        recorded(grant)


def test_pressed_twice_and_racing_renew_and_release_it_has_one_effect(
    tmp_path: Path, figure: Figure, full: bool
) -> None:
    rounds, seed = (500 if full else 60), 7
    with crowd(
        "tests.faults.test_force_release:race",
        len(VERBS),
        environment=FAST,
        directory=str(tmp_path),
        rounds=rounds,
        seed=seed,
    ) as group:
        group.go()
        tokens = []
        for round_ in range(rounds):
            grant = mutex.acquire(LLM, "ann")
            tokens.append(grant.fencing_token)
            told = {"grant": asdict(grant), "go": time.monotonic() + 0.01}
            (tmp_path / "next").write_text(json.dumps(told))
            (tmp_path / "next").rename(tmp_path / f"round-{round_}")
            deadline = time.monotonic() + 10
            while Lease.objects.live().exists():
                assert time.monotonic() < deadline
                time.sleep(0.002)
        assert group.wait(60) == [0] * len(VERBS)
    history = read(tmp_path)
    forced = released = 0
    for token in tokens:
        ends = [op for op in named(history, "force_release", "release") if op.token == token and op.ok]
        assert len(ends) == 1, f"token {token} was ended by {[op.name for op in ends]}"
        hold = Hold.objects.get(fencing_token=token)
        assert hold.outcome == ("forced" if ends[0].name == "force_release" else "released")
        if hold.outcome == "forced":
            forced += 1
            assert hold.ended_by in ("operator 0", "operator 1")
            assert hold.reason == "stuck"
        else:
            released += 1
            assert (hold.ended_by, hold.reason) == ("", "")
    renewals = [op for op in named(history, "renew") if op.ok]
    figure(
        f"{rounds} rounds, seed {seed}: {forced} forced, {released} released, "
        f"{len(renewals)} renewed before that, 0 with two effects or none"
    )
    assert forced
    assert Hold.objects.count() == rounds


async def test_the_caller_is_told_within_a_heartbeat_and_the_model_is_stopped(
    figure: Figure, full: bool
) -> None:
    times = 30 if full else 4
    latencies: list[float] = []

    def press(operator: str) -> bool:
        session_id = Lease.objects.get(service=LLM).session_id
        assert session_id is not None
        return mutex.force_release(LLM, session_id, by=operator, reason="needed elsewhere")

    async with (
        ScriptedEngineServer({CHAT: stop_answering}) as engine,
        site(engine.base_url, **FAST) as client,
    ):
        for number in range(times):
            async with streaming(client) as stream:
                await next_event(stream, "token")
                pressed_at = time.monotonic()
                pressed = await asyncio.gather(
                    query(press, "ann"), query(press, "bob"), return_exceptions=True
                )
                error = await next_event(stream, "error")
                latencies.append(time.monotonic() - pressed_at)
            assert [one for one in pressed if one is True] == [True]
            assert (error["status"], error["ended"]) == (503, "forced")
            await asyncio.wait_for(engine.asked(CHAT)[number].hung_up.wait(), 2)
    holds = await query(lambda: list(Hold.objects.values_list("outcome", "ended_by", "reason")))
    assert len(holds) == times
    assert {(outcome, by in ("ann", "bob"), reason) for outcome, by, reason in holds} == {
        ("forced", True, "needed elsewhere")
    }
    latencies.sort()
    figure(
        f"{times} forced ends in mid-answer: told after p50 {latencies[times // 2]:.2f} s, "
        f"at most {latencies[-1]:.2f} s, with a heartbeat of {HEARTBEAT} s"
    )
    assert latencies[-1] < HEARTBEAT + 1  # a second of room for a busy machine

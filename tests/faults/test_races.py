"""A holder renews at the very moment at which its lease expires and somebody else takes it."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.faults.conftest import FAST, Figure
from tests.faults.holders import Mutation, script

pytestmark = pytest.mark.usefixtures("leases")

TTL = float(FAST["LEASE_TTL"])
LIFE = 0.05  # seconds of its TTL that each lease has left at the beginning of a round
JITTER = 0.005
SEED = 22
WINNER = {
    (True, False): "renewed",
    (False, True): "taken",
    (True, True): "both",
    (False, False): "neither",
}


def race(
    rounds: int, *, queued: bool, mutations: Sequence[Mutation] = ()
) -> tuple[Counter[str], list[float]]:
    """How the rounds ended, and by how much the calls were late on the machine's clock.

    A lease that was renewed lives for a whole TTL again, so that nobody can take it in the same round.
    """
    jitter = random.Random(SEED)
    results: Counter[str] = Counter()
    late: list[float] = []
    with (
        script("renew_at_expiry", ttl=TTL, life=LIFE) as holder,
        script("take_at_expiry", queued=queued, mutations=mutations) as contender,
    ):
        for _ in range(rounds):
            lease = holder.ask()
            moments = [lease["expires_at"] + jitter.uniform(-JITTER, JITTER) for _ in range(2)]
            contender.tell(at=moments[1])
            holder.tell(at=moments[0])
            renewed, taken = holder.hear(), contender.hear()
            late += [renewed["late"], taken["late"]]
            results[WINNER[renewed["won"], taken["won"]]] += 1
            at_last = contender.ask(again=not taken["won"])
            if not renewed["won"] and not at_last["won"]:
                results["refused though expired"] += 1
            if renewed["won"] and at_last["won"]:
                results["taken though renewed"] += 1
            if at_last["won"] and at_last["token"] != lease["token"] + 1:
                results["a wrong token"] += 1
            if at_last["won"]:
                ended = (contender.ask(), holder.ask())
                if ended[1] != {"confirmed": False, "released": False}:
                    results["a stale holder's call accepted"] += 1
            else:
                contender.ask()
                if holder.ask() != {"confirmed": True, "released": True}:
                    results["a renewed lease gone"] += 1
    return results, late


@pytest.mark.parametrize("queued", [False, True], ids=["newcomer", "queued"])
def test_of_a_renewal_and_a_contender_at_the_expiry_one_wins(
    queued: bool, figure: Figure, full: bool
) -> None:
    rounds = 2000 if full else 60
    results, late = race(rounds, queued=queued)
    decided = {"renewed", "taken", "neither"}
    violations = {name: count for name, count in results.items() if name not in decided}
    figure(
        f"{rounds} rounds, expiry +- {JITTER * 1000:.0f} ms, seed {SEED}: {results['renewed']} renewed, "
        f"{results['taken']} taken, {results['both']} both, {results['neither']} neither (tried before the "
        f"expiry, renewed after it: then taken at once); calls came "
        f"{sorted(late)[round(0.99 * (len(late) - 1))] * 1000:.2f} ms after their moment at p99; "
        f"{sum(violations.values())} violations"
    )
    assert violations == {}
    assert sum(results.values()) == rounds
    assert results["renewed"] > 0
    assert results["taken"] > 0


def test_the_race_shows_a_contender_that_does_not_heed_the_expiry() -> None:
    blind = ("acquire", r"\(lease\.session_id IS NULL OR [^\n]*\) AND (?=NOT EXISTS)", "")
    results, _ = race(20, queued=False, mutations=[blind])
    assert results["both"] + results["taken though renewed"] > 0

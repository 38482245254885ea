"""Many callers who want one lock all the time: how fast it goes round, how fairly, and the longest wait.

`python -m benchmarks.fairness` in the root of the project.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic

from benchmarks.rounds import Table, finish, interleaved, machine, parser
from benchmarks.servers import DURABLE, HASTY, running
from benchmarks.worker import Hand, hands

OURS, ADVISORY, PEERS = "hold()", "pg_advisory_lock", ("python-redis-lock", "redis-py Lock")
WORK = 0.001
"""Seconds that a holder holds it."""
PROCESSES = {2: 2, 8: 8, 32: 32, 200: 4}
"""By the number of callers; where there are fewer processes than callers, these are tasks of asyncio."""
READY = 0.1  # seconds for each caller of a process to connect, until all begin
TURNS = 6
"""So many each, on average: with few turns in all, not all can have equally many."""
WARM_UP = 5.0
"""Seconds in which our rate is found; until 200 callers have all asked, hardly a turn is given."""
LONGEST = 30.0  # seconds of a contest, whatever the rate


def fairness(turns: Sequence[int]) -> float:
    """Jain's index: 1 if all had equally many turns, 1/n if one had them all."""
    return sum(turns) ** 2 / (len(turns) * sum(turn**2 for turn in turns)) if any(turns) else 0.0


def contest(working: Sequence[Hand], callers: int, seconds: float, name: str) -> Mapping[str, float]:
    processes = working[: PROCESSES[callers]]
    for hand in processes:
        hand.tell("prepare", name)
    for hand in processes:
        hand.answer()
    start = monotonic() + READY * callers / len(processes)
    for hand in processes:
        hand.tell("contend", name, callers // len(processes), start, seconds, WORK)
    answers = [hand.answer() for hand in processes]
    everybody: list[list[tuple[float, float]]] = [
        caller for answer in answers for caller in answer["callers"]
    ]
    end = start + seconds
    turns = [sum(got <= end for _, got in caller) for caller in everybody]
    hand_offs = sum(len(caller) for caller in everybody)
    return {
        "rate": sum(turns) / seconds,
        "fairness": fairness(turns),
        "starved": float(turns.count(0)),
        "tries": sum(answer["tries"] for answer in answers) / max(hand_offs, 1),
        "longest wait": max((got - asked for caller in everybody for asked, got in caller), default=0) * 1000,
    }


def measure(working: Sequence[Hand], how: str, callers: int, seconds: float, rounds: int) -> Table:
    for name in (ADVISORY, *PEERS):
        contest(working, callers, 1, name)  # warms up
    rate = contest(working, callers, WARM_UP, OURS)["rate"]
    seconds = min(max(seconds, TURNS * callers / max(rate, 1)), LONGEST)
    contenders: dict[str, Callable[[], Mapping[str, float]]] = {
        name: partial(contest, working, callers, seconds, name) for name in (OURS, ADVISORY, *PEERS)
    }
    figures = interleaved(contenders, rounds)
    ours = figures[OURS]
    table = Table(f"{callers} callers, holds of {WORK * 1000:g} ms, in {PROCESSES[callers]} processes; {how}")
    table.goal(f"{OURS}, Jain's fairness", ours["fairness"], at_least=0.99)
    table.goal(f"{OURS}, callers who had no turn", ours["starved"], at_most=0)
    table.goal(f"{OURS}, tries per hand-off", ours["tries"], at_most=1.1)
    goal = 0.65 if callers == 32 else None
    table.ratio(
        f"{OURS} to {ADVISORY}, turns per second", ours["rate"], figures[ADVISORY]["rate"], at_least=goal
    )
    for peer in PEERS:
        table.ratio(f"{OURS} to {peer}, turns per second", ours["rate"], figures[peer]["rate"])
    for name, values in figures.items():
        table.figure(f"{name}, turns per second", values["rate"], "/s")
        table.figure(f"{name}, longest wait", values["longest wait"], "ms")
        table.figure(f"{name}, Jain's fairness", values["fairness"], "")
        table.figure(f"{name}, callers who had no turn", values["starved"], "")
        table.figure(f"{name}, tries per hand-off", values["tries"], "")
    return table


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=3, help="a contest, at least (3)")
    options.add_argument("--callers", type=int, nargs="*", choices=PROCESSES, default=list(PROCESSES))
    chosen = options.parse_args()
    tables: list[Table] = []
    with (
        running() as servers,
        hands(max(PROCESSES[each] for each in chosen.callers), servers.environment()) as working,
    ):
        facts = machine("django", "psycopg", "redis", "python-redis-lock") | servers.facts()
        for how in (DURABLE, HASTY):
            servers.keep(how)
            tables.extend(
                measure(working, how, callers, chosen.seconds, chosen.rounds) for callers in chosen.callers
            )
    finish(tables, facts, chosen.json)


if __name__ == "__main__":
    main()

"""From one caller's release to the next caller's grant, the two in processes of their own.

`python -m benchmarks.handoff` in the root of the project.
"""

import random
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from time import sleep

from benchmarks.rounds import Table, finish, interleaved, machine, parser, percentile
from benchmarks.servers import DURABLE, HASTY, Servers, running
from benchmarks.worker import Hand, hands

OURS, ADVISORY, REDIS_LOCK, REDIS = "hold()", "pg_advisory_lock", "python-redis-lock", "redis-py Lock"
SETTLED = (0.01, 0.11)
"""Seconds that the next caller waits before the release, spread over the time that redis-py sleeps."""


def hand_offs(callers: Sequence[Hand], name: str, count: int) -> dict[str, float]:
    source = random.Random(count)
    holder, waiter = callers
    holder.ask("take", name)
    took = []
    for _ in range(count):
        waiter.tell("take", name)
        sleep(source.uniform(*SETTLED))
        given = holder.ask("give", name)
        took.append(waiter.answer() - given)
        holder, waiter = waiter, holder
    holder.ask("give", name)
    return {"p50": statistics.median(took) * 1000, "p99": percentile(took, 0.99) * 1000}


def measure(servers: Servers, how: str, count: int, rounds: int) -> Table:
    servers.keep(how)
    with hands(2, servers.environment()) as callers:
        contenders: dict[str, Callable[[], dict[str, float]]] = {}
        for name in (OURS, ADVISORY, REDIS_LOCK, REDIS):
            hand_offs(callers, name, 10)  # warms up
            contenders[name] = partial(hand_offs, callers, name, count)
        figures = interleaved(contenders, rounds)
    table = Table(f"Hand-off between two processes; {how}")
    table.ratio(f"{OURS} to {REDIS_LOCK}, p50", figures[OURS]["p50"], figures[REDIS_LOCK]["p50"], at_most=1.2)
    table.ratio(f"{OURS} to {ADVISORY}, p50", figures[OURS]["p50"], figures[ADVISORY]["p50"], at_most=2)
    table.ratio(f"{OURS} to {REDIS}, p50", figures[OURS]["p50"], figures[REDIS]["p50"])
    table.goal(f"{OURS}, p99, ms", figures[OURS]["p99"], at_most=5)
    for name, values in figures.items():
        table.figure(f"{name}, p50", values["p50"], "ms")
        table.figure(f"{name}, p99", values["p99"], "ms")
    return table


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=100, help="hand-offs a round (100)")
    chosen = options.parse_args()
    with running() as servers:
        facts = machine("django", "psycopg", "redis", "python-redis-lock") | servers.facts()
        tables = [measure(servers, how, chosen.count, chosen.rounds) for how in (DURABLE, HASTY)]
    finish(tables, facts, chosen.json)


if __name__ == "__main__":
    main()

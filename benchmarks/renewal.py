"""What a heartbeat costs: one lease beside a plain UPDATE, and many leases in one statement.

`python -m benchmarks.renewal` in the root of the project.
"""

import statistics
from collections.abc import Callable
from functools import partial

from benchmarks.rounds import Table, finish, interleaved, machine, parser, percentile
from benchmarks.servers import DURABLE, HASTY, Servers, running
from benchmarks.worker import Hand, hands

OURS, RAW, MANY = "renew", "raw psycopg, one UPDATE", "renew_all"
MANY_LEASES = 32


def heartbeats(hand: Hand, name: str, count: int) -> dict[str, float]:
    took = hand.ask("renewals", name, MANY_LEASES, count)
    return {"p50": statistics.median(took) * 1000, "p99": percentile(took, 0.99) * 1000}


def measure(servers: Servers, how: str, count: int, rounds: int) -> Table:
    servers.keep(how)
    with hands(1, servers.environment()) as (hand,):
        contenders: dict[str, Callable[[], dict[str, float]]] = {}
        for name in (OURS, RAW, MANY):
            hand.ask("renewals", name, MANY_LEASES, 20)  # warms up
            contenders[name] = partial(heartbeats, hand, name, count)
        figures = interleaved(contenders, rounds)
    table = Table(f"Heartbeats on PostgreSQL; {how}")
    table.ratio(f"{OURS} to {RAW}", figures[OURS]["p50"], figures[RAW]["p50"], at_most=1.4)
    each = [value / MANY_LEASES for value in figures[MANY]["p50"]]
    table.ratio(f"{MANY} of {MANY_LEASES}, each lease, to {OURS}", each, figures[OURS]["p50"], at_most=0.1)
    for name, values in figures.items():
        table.figure(f"{name}, p50", values["p50"], "ms")
        table.figure(f"{name}, p99", values["p99"], "ms")
    return table


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=300, help="heartbeats a round (300)")
    chosen = options.parse_args()
    with running() as servers:
        facts = machine("django", "psycopg") | servers.facts()
        tables = [measure(servers, how, chosen.count, chosen.rounds) for how in (DURABLE, HASTY)]
    finish(tables, facts, chosen.json)


if __name__ == "__main__":
    main()

"""Taking a free lock and giving it back, beside other locks that programs use: one caller, nobody else.

`python -m benchmarks.pair` in the root of the project.
"""

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.rounds import Table, finish, interleaved, machine, parser, percentile
from benchmarks.servers import DURABLE, HASTY, Servers, environment, migrate, running
from benchmarks.worker import Hand, hands

OURS, HOLD, RAW = "acquire + release", "hold()", "raw psycopg, same statements"
REDIS, ORM = "redis-py Lock", "Django ORM"
PEERS = (REDIS, "python-redis-lock", "django-pglock", "pg_advisory_lock")
Figures = dict[str, dict[str, list[float]]]


def pairs(hand: Hand, name: str, count: int) -> dict[str, float]:
    took = hand.ask("pairs", name, count)
    return {"p50": statistics.median(took) * 1000, "p99": percentile(took, 0.99) * 1000}


def measure(hand: Hand, names: tuple[str, ...], count: int, rounds: int) -> Figures:
    contenders: dict[str, Callable[[], dict[str, float]]] = {}
    for name in names:
        hand.ask("pairs", name, 20)  # warms up
        contenders[name] = partial(pairs, hand, name, count)
    return interleaved(contenders, rounds)


def listed(table: Table, figures: Figures) -> Table:
    for name, values in figures.items():
        table.figure(f"{name}, p50", values["p50"], "ms")
        table.figure(f"{name}, p99", values["p99"], "ms")
    return table


def on_postgresql(servers: Servers, how: str, count: int, rounds: int) -> Table:
    servers.keep(how)
    with hands(1, servers.environment()) as (hand,):
        figures = measure(hand, (OURS, HOLD, RAW, *PEERS), count, rounds)
    table = Table(f"A pair on PostgreSQL and Redis; {how}")
    table.ratio(f"{OURS} to {RAW}", figures[OURS]["p50"], figures[RAW]["p50"], at_most=1.3)
    goal = 0.9 if how == DURABLE else None
    table.ratio(f"{OURS} to {REDIS}", figures[OURS]["p50"], figures[REDIS]["p50"], at_most=goal)
    for peer in PEERS[1:]:
        table.ratio(f"{OURS} to {peer}", figures[OURS]["p50"], figures[peer]["p50"])
    return listed(table, figures)


def on_sqlite(count: int, rounds: int) -> Table:
    with tempfile.TemporaryDirectory(prefix="leasehold-benchmark-") as directory:
        variables = environment(f"sqlite:///{Path(directory) / 'leases.sqlite3'}")
        migrate(variables)
        with hands(1, variables) as (hand,):
            figures = measure(hand, (OURS, HOLD, ORM), count, rounds)
    table = Table("A pair on SQLite, WAL, synchronous NORMAL")
    table.ratio(
        f"{OURS} to filter().update() of the {ORM}", figures[OURS]["p50"], figures[ORM]["p50"], at_most=0.6
    )
    return listed(table, figures)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=300, help="pairs a round (300)")
    chosen = options.parse_args()
    with running() as servers:
        facts = machine("django", "psycopg", "redis", "python-redis-lock", "django-pglock") | servers.facts()
        tables = [on_postgresql(servers, how, chosen.count, chosen.rounds) for how in (DURABLE, HASTY)]
    tables.append(on_sqlite(chosen.count, chosen.rounds))
    finish(tables, facts, chosen.json)


if __name__ == "__main__":
    main()

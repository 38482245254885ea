"""What a lease adds to a request, and how fast the answers are that people get while they have to wait.

`python -m benchmarks.web` in the root of the project.
"""

import asyncio
import os
import statistics
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from uuid import uuid4

import django

from benchmarks.databases import DATABASES
from benchmarks.load import Request, latencies
from benchmarks.rounds import Table, finish, interleaved, machine, parser, percentile
from benchmarks.server import AS_A_PUBLIC_SITE, SITE, running_server

LLM = "lightweight-llm"
BARE = Request("GET", "/bare")
STATUS = Request("GET", "/api/services/status")
ASK = b'{"message": "Hello"}'
CHAT = Request("POST", "/api/lightweight-llm/chat", ASK)
REFUSED = Request("POST", "/api/lightweight-llm/chat", ASK, expected=503)
TICKETS, HOLDS = 1_000, 10_000


def chat(rounds: int, seconds: float) -> Table:
    """One caller, one request after another, with the lease and without."""
    table = Table("A chat request whose engine answers at once, with the lease and without, ms")
    with running_server(SITE) as leased, running_server(SITE, BENCHMARK_WITHOUT_LEASE="1") as free:

        def measure(base: str) -> Callable[[], dict[str, float]]:
            def once() -> dict[str, float]:
                taken = asyncio.run(latencies(base, CHAT, connections=1, seconds=seconds))
                return {"p50": statistics.median(taken) * 1000, "p99": percentile(taken, 0.99) * 1000}

            return once

        contenders = {"with the lease": measure(leased.base), "without": measure(free.base)}
        interleaved(contenders, 1)  # warm up
        figures = interleaved(contenders, rounds)
    added = [
        mine - other
        for mine, other in zip(figures["with the lease"]["p50"], figures["without"]["p50"], strict=True)
    ]
    table.goal("the lease adds at p50, ms", added, at_most=1.5)
    for name, found in figures.items():
        for figure, values in found.items():
            table.figure(f"{name}, {figure}", values, "ms")
    return table


def answers(rounds: int, seconds: float, workers: int) -> Table:
    """The status and the refusal beside a bare view, with full tables."""
    table = Table(
        f"Refusal and status beside a bare view: {workers} worker(s), {TICKETS} tickets, {HOLDS} ended holds"
    )
    fill()
    with running_server(SITE, workers=workers) as server:

        def measure(request: Request) -> Callable[[], dict[str, float]]:
            def once() -> dict[str, float]:
                taken = asyncio.run(latencies(server.base, request, connections=8, seconds=seconds))
                return {"requests": len(taken) / seconds, "p99": percentile(taken, 0.99) * 1000}

            return once

        contenders = {"bare": measure(BARE), "status": measure(STATUS), "refusal": measure(REFUSED)}
        interleaved(contenders, 1)  # warm up
        figures = interleaved(contenders, rounds)
    for name in ("status", "refusal"):
        table.ratio(
            f"{name} to the bare view, requests per second",
            figures[name]["requests"],
            figures["bare"]["requests"],
            at_least=0.6,
        )
    for name, found in figures.items():
        table.figure(f"{name}, requests per second", found["requests"], "/s")
        table.figure(f"{name}, p99", found["p99"], "ms")
    return table


def fill() -> None:
    """A held service, a long queue and a long history."""
    from django.db import connection  # noqa: PLC0415 - Django is set up by now
    from django.utils import timezone  # noqa: PLC0415

    from leases import mutex  # noqa: PLC0415
    from leases.models import Hold, Lease, Ticket  # noqa: PLC0415

    empty()
    mutex.acquire(LLM, "somebody")
    now = timezone.now()
    later = now + timedelta(hours=1)
    Lease.objects.filter(service=LLM).update(expires_at=later)
    Ticket.objects.bulk_create(
        Ticket(
            *(), service_id=LLM, owner=f"user:{number}", process="x", waiter=uuid4().hex,
            enqueued_at=now, expires_at=later,
        )
        for number in range(TICKETS)
    )  # fmt: skip
    Hold.objects.bulk_create(
        Hold(
            *(), service_id=LLM, session_id=uuid4().hex, owner=f"user:{number}", fencing_token=-number - 1,
            started_at=now - timedelta(seconds=number), last_activity_at=now, ended_at=now,
            outcome="released",
        )
        for number in range(HOLDS)
    )  # fmt: skip
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")


def empty() -> None:
    from leases.models import Hold, Lease, Ticket  # noqa: PLC0415

    Ticket.objects.all().delete()
    Lease.objects.update(session_id=None)
    Hold.objects.all().delete()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=3.0, help="of each measurement (3)")
    options.add_argument("--database", choices=DATABASES, default="PostgreSQL")
    chosen = options.parse_args()
    os.environ |= AS_A_PUBLIC_SITE
    with DATABASES[chosen.database]() as os.environ["DATABASE_URL"]:
        django.setup()
        import_module("django.core.management").call_command("migrate", verbosity=0)
        tables = [chat(chosen.rounds, chosen.seconds)]
        tables += [answers(chosen.rounds, chosen.seconds, workers) for workers in (1, 2)]
    finish(tables, machine("django", "uvicorn") | {"database": chosen.database}, chosen.json)


if __name__ == "__main__":
    main()

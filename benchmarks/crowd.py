"""Many people who wait on streams of one server: what they cost, and how fast the others are answered.

`python -m benchmarks.crowd` in the root of the project.
"""

import asyncio
import os
import time
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import django
import httpx

from benchmarks.databases import DATABASES
from benchmarks.load import Request, latencies
from benchmarks.rounds import Table, finish, interleaved, machine, parser, percentile
from benchmarks.server import AS_A_PUBLIC_SITE, SITE, Server, running_server

if TYPE_CHECKING:
    from leases.mutex import Grant

LLM = "lightweight-llm"
STATUS = Request("GET", "/api/services/status")
BODY = b'{"message": "Hello"}'
HEAD = (
    b"POST /api/lightweight-llm/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Accept: text/event-stream\r\nPrefer: wait=600\r\nContent-Length: %d\r\n\r\n" % len(BODY)
)
AT_ONCE = 25  # who come at the same time
MEMORY_GOAL = 60.0  # KB for each
STATUS_GOAL = 50.0  # ms, p99
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def join(base: str) -> Stream:
    """Ask for an answer, and read that one waits for it."""
    address = urlsplit(base)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(HEAD + BODY)
    await reader.readuntil(b"event: queued")
    return reader, writer


async def crowd(server: Server, people: int, seconds: float) -> dict[str, float]:
    """All that is measured, of a server that has only just begun."""
    from leases import mutex  # noqa: PLC0415 - Django is set up by now
    from leases.database import in_database  # noqa: PLC0415

    holder = await in_database(_held_for_long)
    waiting = [await join(server.base)]  # the watching thread and the listener are there from now on
    await asyncio.sleep(1)
    before, threads, connected = server.memory, server.process.num_threads(), await in_database(_connections)
    while len(waiting) < people:
        coming = min(AT_ONCE, people - len(waiting))
        waiting += await asyncio.gather(*(join(server.base) for _ in range(coming)))
    await asyncio.sleep(2)
    after, threads_after = server.memory, server.process.num_threads()
    connected_after = await in_database(_connections)
    taken = await latencies(server.base, STATUS, connections=1, seconds=seconds)
    began = time.perf_counter()
    assert await in_database(mutex.release, holder)
    for reader, writer in waiting:  # first come, first served
        await reader.readuntil(b"event: done")
        writer.close()
    return {
        "memory": (after - before) * 1000 / (people - 1),
        "threads": threads_after - threads,
        "connections": (connected_after - connected) / (people - 1),
        "connections in all": connected_after,
        "status p50": percentile(taken, 0.5) * 1000,
        "status p99": percentile(taken, 0.99) * 1000,
        "served": people / (time.perf_counter() - began),
    }


def _held_for_long() -> "Grant":
    from django.db.models import F  # noqa: PLC0415

    from leases import mutex  # noqa: PLC0415
    from leases.models import Lease  # noqa: PLC0415

    holder = mutex.acquire(LLM, "somebody")
    Lease.objects.filter(service=LLM).update(expires_at=F("expires_at") + timedelta(hours=1))
    return holder


def _connections() -> float:
    """Of the server to its database: all but this process's own."""
    from django.db import connection  # noqa: PLC0415

    if connection.vendor != "postgresql":
        return 0.0
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()"""
        )
        return float(cursor.fetchone()[0])


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--people", type=int, default=1_000, help="who wait at once (1000)")
    options.add_argument("--seconds", type=float, default=5.0, help="of asking for the status (5)")
    options.add_argument("--database", choices=DATABASES, default="PostgreSQL")
    chosen = options.parse_args()
    os.environ |= AS_A_PUBLIC_SITE

    def measure() -> dict[str, float]:
        with running_server(SITE) as server:
            while not httpx.get(f"{server.base}/readyz").is_success:  # the embedding engine is 200 MB
                time.sleep(0.2)
            return asyncio.run(crowd(server, chosen.people, chosen.seconds))

    with DATABASES[chosen.database]() as os.environ["DATABASE_URL"]:
        django.setup()
        for command in ("migrate", "createcachetable"):
            import_module("django.core.management").call_command(command, verbosity=0)
        found = interleaved({"crowd": measure}, chosen.rounds)["crowd"]
    table = Table(f"{chosen.people} people who wait on streams of one server, {chosen.database}")
    table.goal("memory for each, KB", found["memory"], at_most=MEMORY_GOAL)
    table.goal("connections to the database for each", found["connections"], at_most=0.01)
    table.goal("status meanwhile, p99, ms", found["status p99"], at_most=STATUS_GOAL)
    table.figure("status meanwhile, p50", found["status p50"], "ms")
    table.figure("connections of the server in all", found["connections in all"], "")
    table.figure("threads more than for one who waits", found["threads"], "")
    table.figure("then served one after another", found["served"], "/s")
    finish([table], machine("django", "uvicorn"), chosen.json)


if __name__ == "__main__":
    main()

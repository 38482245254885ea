"""Many people who wait on one server: coroutines, and neither threads nor connections."""

import asyncio
import json
import time
from pathlib import Path

import httpx
import pytest
from django.db import connection

from leases import mutex
from leases.models import Ticket
from tests.chat.scripted_engine_server import ScriptedEngineServer
from tests.chat.test_faults import CHAT
from tests.chat.test_streams import speak_at_once
from tests.database import query
from tests.faults.conftest import Figure
from tests.server import running_server

pytestmark = pytest.mark.usefixtures("leases")

LLM = "lightweight-llm"
REQUEST = json.dumps({"message": "hello"}).encode()
HEAD = (
    b"POST /api/lightweight-llm/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Accept: text/event-stream\r\nPrefer: wait=600\r\nContent-Length: %d\r\n\r\n" % len(REQUEST)
)


def server_pid(base_url: str) -> int:
    """The process that listens on this port, as the kernel knows it."""
    port = httpx.URL(base_url).port
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port:
            inode = f"socket:[{fields[9]}]"
            for fd in Path("/proc").glob("[0-9]*/fd/*"):
                try:
                    if str(fd.readlink()) == inode:
                        return int(fd.parts[2])
                except OSError:
                    continue
    raise AssertionError("nobody listens there")


def cost(pid: int) -> dict[str, int]:
    """Threads, and resident memory in KB."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return {"threads": int(status["Threads"]), "memory": int(status["VmRSS"].split()[0])}


def connections() -> int:
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


async def join_queue(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + REQUEST)
    await reader.readuntil(b"event: queued")
    return reader, writer


async def test_those_who_wait_cost_no_threads_and_no_connections(figure: Figure, full: bool) -> None:
    many = 1000 if full else 150
    async with ScriptedEngineServer({CHAT: speak_at_once}) as engine:
        running = running_server(
            CHAT_BASE_URL=engine.base_url, CHAT_MODEL="scripted", CHAT_CONTEXT_WINDOW="2000"
        )
        base_url = await asyncio.to_thread(running.__enter__)
        port = httpx.URL(base_url).port
        assert port is not None
        pid = server_pid(base_url)
        waiting: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        try:
            holder = await query(mutex.acquire, LLM, "holder")
            first = await join_queue(port)  # the watching thread and the listener are there from now on
            await asyncio.sleep(1)
            before, connected = cost(pid), await query(connections)
            waiting.append(first)
            while len(waiting) < many:
                waiting += await asyncio.gather(
                    *(join_queue(port) for _ in range(min(25, many - len(waiting))))
                )
                assert await query(mutex.renew, holder)
            await asyncio.sleep(2)
            assert await query(mutex.renew, holder)
            after, connected_after = cost(pid), await query(connections)
            assert await query(Ticket.objects.live().count) == many
            answer_times = []
            async with httpx.AsyncClient(base_url=base_url) as client:
                for _ in range(40):
                    began = time.monotonic()
                    (await client.get("/api/services/status")).raise_for_status()
                    answer_times.append((time.monotonic() - began) * 1000)
            figure(
                f"{many} wait on streams: {(after['memory'] - before['memory']) / (many - 1):.0f} KB each, "
                f"{after['threads'] - before['threads']:+d} threads, "
                f"{connected_after - connected:+d} connections; "
                f"status meanwhile: slowest of 40 {max(answer_times):.0f} ms"
            )
            assert after["threads"] - before["threads"] <= 10
            assert connected_after - connected <= 5
            await query(mutex.release, holder)
            began = time.monotonic()
            for reader, _ in waiting:  # first come, first served, and everybody is
                async with asyncio.timeout(60):
                    await reader.readuntil(b"event: done")
            figure(f"{many} served one after another in {time.monotonic() - began:.1f} s")
        finally:
            for _, writer in waiting:
                writer.transport.abort()
            await asyncio.to_thread(running.__exit__, None, None, None)

"""A real server process on the test's database."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx

from tests.database import ROOT, database_url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_server(*, grace: str = "1", **environment: str) -> Iterator[str]:
    """The base URL of a server that answers, and is gone with the block: it has `grace` seconds for that."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)),
            *("--log-level", "warning", "--timeout-graceful-shutdown", grace),
        ],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database_url()} | environment,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        wait_until_it_answers(base, process)
        yield base
    finally:
        process.terminate()
        try:
            process.wait(15 + float(grace))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@asynccontextmanager
async def client_of_server(*, grace: str = "1", **environment: str) -> AsyncIterator[httpx.AsyncClient]:
    """The same for an async test: a client of the server."""
    running = running_server(grace=grace, **environment)
    base = await asyncio.to_thread(running.__enter__)
    try:
        async with httpx.AsyncClient(base_url=base, timeout=60) as client:
            yield client
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


def wait_until_it_answers(base: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, "the server ended before it answered"
        assert time.monotonic() < deadline, "the server did not answer in 30 s"
        try:
            httpx.get(f"{base}/api/services/status", timeout=10).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return

"""A real server process on the test's database."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.database import ROOT, database_url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_server(**environment: str) -> Iterator[str]:
    """The base URL of a server that answers, and is gone with the block."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "config.asgi:application", "--lifespan", "off"),
            *("--port", str(port), "--log-level", "warning"),
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
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


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

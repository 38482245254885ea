"""A real server process on the test's database."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from tests.database import ROOT, database_url

# A public site that is served without https.
PRODUCTION = {
    "DEBUG": "False",
    "HTTPS": "False",
    "SECRET_KEY": "a key of the tests, long enough for all of them",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_server(
    application: str = "tests.patient:application",
    *,
    grace: str = "1",
    log: Path | str = "",
    asked: str = "/api/services/status",
    **environment: str,
) -> Iterator[str]:
    """The base URL of a server that answers, and is gone with the block: it has `grace` seconds for that.

    It answers when it does so at the address `asked`. What it says goes to the file `log`.
    """
    port = free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", application, "--port", str(port)),
        *("--log-level", "warning", "--timeout-graceful-shutdown", grace),
        *("--forwarded-allow-ips", environment.get("FORWARDED_ALLOW_IPS", "")),  # as scripts/serve has it
    ]
    with Path(log or os.devnull).open("wb") as file:
        said = file if log else None
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": database_url()} | environment,
            stdout=said,
            stderr=said,
        )
    base = f"http://127.0.0.1:{port}"
    try:
        wait_until_it_answers(f"{base}{asked}", process)
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
async def client_of_server(
    *, grace: str = "1", log: Path | str = "", **environment: str
) -> AsyncIterator[httpx.AsyncClient]:
    """The same for an async test: a client of the server."""
    running = running_server(grace=grace, log=log, **environment)
    base = await asyncio.to_thread(running.__enter__)
    try:
        async with httpx.AsyncClient(base_url=base, timeout=60) as client:
            yield client
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


def wait_until_it_answers(address: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, "the server ended before it answered"
        assert time.monotonic() < deadline, "the server did not answer in 30 s"
        try:
            # A public site leads elsewhere, to https; what matters is that it answers.
            assert httpx.get(address, timeout=10).status_code in (200, 301)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return

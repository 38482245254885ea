"""A real server process on the test's database."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx

from tests.database import database_url
from tests.forked import begin

# A public site that is served without https.
PRODUCTION = {
    "DEBUG": "False",
    "HTTPS": "False",
    "SECRET_KEY": "a key of the tests, long enough for all of them",
}


def free_port() -> int:
    """A port that the system gives to nobody else for a minute, unless they ask for its number.

    One with a connection that has just been closed at this end (TIME_WAIT) is passed over when it looks for a
    free one; servers may listen there all the same, as they and this set SO_REUSEADDR.
    """
    with socket.socket() as listening, socket.socket() as calling:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        calling.connect(listening.getsockname())
        listening.accept()[0].close()
        port: int = listening.getsockname()[1]
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
    process = begin(
        *("uvicorn", application, "--port", str(port)),
        *("--log-level", "warning", "--timeout-graceful-shutdown", grace),
        *("--forwarded-allow-ips", environment.get("FORWARDED_ALLOW_IPS", "")),  # as scripts/serve has it
        # What the tests of the browser allow themselves is not for servers.
        environment=os.environ
        | {"DATABASE_URL": database_url(), "DJANGO_ALLOW_ASYNC_UNSAFE": ""}
        | environment,
        output=str(log),
    )
    base = f"http://127.0.0.1:{port}"
    try:
        wait_until_it_answers(f"{base}{asked}", process)
        yield base
    finally:
        process.terminate()
        process.join(15 + float(grace))
        in_time = process.exitcode is not None
        process.kill()
        process.join()
        process.close()
        assert in_time, "the server did not end in time and was killed"


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


def wait_until_it_answers(address: str, process: BaseProcess) -> None:
    deadline = time.monotonic() + 30
    with httpx.Client(timeout=10) as client:  # a new one each time would take a core's time from the server
        while True:
            assert process.is_alive(), "the server ended before it answered"
            assert time.monotonic() < deadline, "the server did not answer in 30 s"
            try:
                # A public site leads elsewhere, to https; what matters is that it answers.
                assert client.get(address).status_code in (200, 301)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return

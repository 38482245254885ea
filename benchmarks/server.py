"""A real server of the project, on the database of this process's environment."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import psutil  # type: ignore[import-untyped]

# Debugging keeps every query's text.
AS_A_PUBLIC_SITE = {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "DEBUG": "False",
    "HTTPS": "False",
    "SECRET_KEY": "a key of the benchmarks, long enough for all of them",
    "ANONYMOUS_RATE": "",
    "LOG_LEVEL": "WARNING",
}
SITE = "benchmarks.site:application"
"""The project's site with an engine that answers at once."""


@dataclass(frozen=True)
class Server:
    """A server that answers at `base`."""

    base: str
    process: psutil.Process

    @property
    def memory(self) -> float:
        """Resident, in MB, of all its processes."""
        family = [self.process, *self.process.children(recursive=True)]
        return float(sum(each.memory_info().rss for each in family)) / 1e6


@contextmanager
def running_server(
    application: str = "config.asgi:application", *, workers: int = 1, **environment: str
) -> Iterator[Server]:
    """A server that answers, and is gone with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", application, "--port", str(port), "--workers", str(workers)),
            *("--log-level", "warning", "--no-access-log", "--timeout-graceful-shutdown", "1"),
            *("--loop", "config.event_loop:EventLoop"),
        ],
        env=os.environ | environment,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(base, process)
        yield Server(base, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_answers(base: str, process: "subprocess.Popen[bytes]") -> None:
    with httpx.Client(timeout=60) as client:  # a new one each time would take a core's time from the server
        while process.poll() is None:
            try:
                client.get(f"{base}/api/services/status").raise_for_status()
            except httpx.TransportError:
                time.sleep(0.02)
            else:
                return
    sys.exit("The server ended before it answered. Please look above for its reason.")

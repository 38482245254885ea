"""A real server of the project, on a database that has been migrated."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

# Debugging keeps every query's text.
AS_A_PUBLIC_SITE = {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "DEBUG": "False",
    "HTTPS": "False",
    "SECRET_KEY": "a key of the benchmarks, long enough for all of them",
}


@contextmanager
def running_server() -> Iterator[str]:
    """The base URL of a server that answers, and is gone with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)),
            *("--log-level", "warning", "--timeout-graceful-shutdown", "1"),
        ],
        env=os.environ | {"ANONYMOUS_RATE": ""},
    )
    base = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(base, process)
        yield base
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_answers(base: str, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        try:
            httpx.get(f"{base}/api/services/status", timeout=60).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    sys.exit("The server ended before it answered. Please look above for its reason.")

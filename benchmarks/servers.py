"""The servers that the benchmarks of the lease ask, each made for one run in a temporary directory.

Both are reached over Unix sockets, so that neither pays for a transport that the other does not.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import psycopg

from benchmarks.server import AS_A_PUBLIC_SITE
from tests.postgresql import running_postgresql

ROOT = Path(__file__).resolve().parent.parent
MISSING = (
    "redis-server or a package is missing here, and there is nothing to compare with. Please install "
    "Debian's redis-server, run `pip install redis python-redis-lock django-pglock` in an environment made "
    "for this, which also has the project's requirements, and start the benchmark from there."
)
PACKAGES = ("redis", "redis_lock", "pglock")
DURABLE, HASTY = "each commit is on the disk", "no commit waits for the disk"
"""The two ways in which the servers keep what they are told."""


def environment(database_url: str) -> dict[str, str]:
    """For processes that use this database as a public site does: DEBUG would record every query."""
    return os.environ | AS_A_PUBLIC_SITE | {"DATABASE_URL": database_url}


@dataclass(frozen=True)
class Servers:
    """PostgreSQL with the project's tables, and Redis."""

    url: str
    redis_socket: Path

    def environment(self) -> dict[str, str]:
        """For the processes that use them."""
        return environment(self.url) | {"BENCHMARK_REDIS": str(self.redis_socket)}

    def keep(self, how: str) -> None:
        """DURABLE or HASTY from now on, for the connections that are open too."""
        durable = how == DURABLE
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET synchronous_commit = {'on' if durable else 'off'}")
            connection.execute("SELECT pg_reload_conf()")
        command = ["config", "set", "appendfsync", "always" if durable else "everysec"]
        subprocess.run(
            ["redis-cli", "-s", self.redis_socket, *command],  # noqa: S607 - wherever the system has it
            check=True,
            capture_output=True,
        )
        sleep(0.2)  # until the sessions have read it

    def facts(self) -> dict[str, str]:
        with psycopg.connect(self.url) as connection:
            version = str(connection.info.server_version // 10000)
        redis = subprocess.run(
            ["redis-server", "--version"],  # noqa: S607
            check=True,
            capture_output=True,
            text=True,
        )
        return {"postgresql": version, "redis-server": redis.stdout.split("v=")[1].split()[0]}


@contextmanager
def running() -> Iterator[Servers]:
    """Both servers, until the end of the block. Ends the program if they are not installed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped."))  # the servers end with this program
    if shutil.which("redis-server") is None or not all(map(find_spec, PACKAGES)):
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory(prefix="leasehold-benchmark-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        with running_postgresql() as url, _redis(directory) as redis_socket:
            servers = Servers(url, redis_socket)
            migrate(servers.environment())
            yield servers


def migrate(variables: dict[str, str]) -> None:
    """Make the project's tables in the database that DATABASE_URL names."""
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=ROOT, env=variables, check=True
    )


@contextmanager
def _redis(directory: Path) -> Iterator[Path]:
    data = directory / "redis"
    data.mkdir()
    socket = data / "socket"
    options = {"port": "0", "unixsocket": str(socket), "dir": str(data), "save": "", "daemonize": "no"}
    options |= {"appendonly": "yes", "appendfsync": "always", "logfile": str(data / "log")}
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(["redis-server", *arguments])  # noqa: S607
    try:
        deadline = monotonic() + 20
        while not socket.exists():
            assert monotonic() < deadline and process.poll() is None, "redis-server does not start"  # noqa: PT018
            sleep(0.02)
        yield socket
    finally:
        process.terminate()
        process.wait(20)

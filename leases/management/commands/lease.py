"""manage.py lease: run a command under a lease, see who holds what, end a session, prune the history."""

import argparse
import asyncio
import json
import logging
import os
import sys
from functools import partial
from getpass import getuser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from leases import operations, pruning
from leases.child import CannotRun, Run
from leases.exceptions import ServiceBusy, UnknownService
from leases.models import Lease, Service
from leases.owners import command_owner
from leases.status import State, states
from leases.turn import Turn

COLUMNS = ("service", "state", "holder", "held s", "idle s", "expires in s", "queue", "estimated wait s")
REASON_MAX = 300  # characters


class Command(BaseCommand):
    requires_system_checks = ["leases"]  # the others load every page and engine: 0.7 s of each command
    help = "Runs a command under a lease (run), and shows, ends and prunes sessions."
    command: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        """What stands behind `--` is the command's own: argparse's ways with it differ between Pythons."""
        if "--" in argv:
            self.command = argv[argv.index("--") + 1 :]
            argv = argv[: argv.index("--")]
        super().run_from_argv(argv)

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        run = verbs.add_parser("run", help="wait for a service and run a command: run SERVICE -- COMMAND")
        run.add_argument("service")
        run.add_argument("--wait", type=_seconds, help="longest wait in the queue (LEASE_WAIT_MAX)")
        run.add_argument("--grace", type=_seconds, default=10.0, help="from SIGTERM to SIGKILL (10)")
        run.set_defaults(act=self.run_command)
        status = verbs.add_parser("status", help="show who holds what and who waits")
        status.add_argument("--json", action="store_true")
        status.set_defaults(act=self.status)
        release = verbs.add_parser("release", help="end the session that holds a service")
        release.add_argument("service")
        release.add_argument("--reason", type=_reason, required=True, help="kept with your name")
        release.set_defaults(act=self.release)
        prune = verbs.add_parser("prune", help="delete the history of sessions that ended long ago")
        prune.add_argument("--older-than", type=_age, required=True, metavar="AGE", help="such as 30d")
        prune.set_defaults(act=self.prune)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            options["act"](**options)
        except UnknownService as error:
            raise CommandError(str(error), returncode=os.EX_USAGE) from None

    def run_command(
        self, *, service: str, wait: float | None, grace: float, verbosity: int, **_: Any
    ) -> None:
        if not self.command:
            raise CommandError(
                "Please name the command: lease run SERVICE -- COMMAND", returncode=os.EX_USAGE
            )
        if verbosity < 2:  # a cron job's mail should hold what the command says, not what we log
            logging.getLogger("leases").setLevel(logging.WARNING)
        wait = settings.LEASE_WAIT_MAX if wait is None else wait
        run = Run(self.command, grace, self.say)
        turn = Turn(wait=wait or None, tell=partial(self.told, service))
        try:
            code = asyncio.run(run.under_lease(service, command_owner(), turn))
        except ServiceBusy as busy:
            self.say(str(busy))
            code = os.EX_TEMPFAIL
        except CannotRun as error:
            self.say(str(error))
            code = error.code
        sys.exit(code)

    def say(self, sentence: str) -> None:
        self.stderr.write(sentence)

    def told(self, service: str, event: str, data: dict[str, Any]) -> None:
        if event == "queued":
            seconds = data["estimatedWaitSeconds"]
            about = "" if seconds is None else f", about {seconds} s to go"
            self.say(f"Waiting for {service}: place {data['position']} in the queue{about}.")

    def status(self, **options: Any) -> None:
        rows = [_shown(state) for state in states()]
        if options["json"]:
            self.stdout.write(json.dumps(rows, indent=2))
            return
        table = [COLUMNS, *(tuple("-" if row[key] is None else str(row[key]) for key in row) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for line in table:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())

    def release(self, *, service: str, reason: str, **_: Any) -> None:
        lease = Lease.objects.live().filter(service=service).first()
        if lease is None:
            if not Service.objects.filter(pk=service).exists():
                raise UnknownService(service)
            raise CommandError(f"Nobody holds {service}.")
        actor = f"shell:{_login()}"
        if not operations.force_release(service, lease.fencing_token, actor=actor, reason=reason):
            raise CommandError(f"The session of {lease.owner} has just ended by itself.")
        self.stdout.write(f"Ended the session of {lease.owner} on {service}.")

    def prune(self, **options: Any) -> None:
        count = pruning.prune(options["older_than"])
        self.stdout.write(f"Deleted {count} ended session{'' if count == 1 else 's'} from the history.")


def _shown(state: State) -> dict[str, Any]:
    """One row of the table; times in seconds, None where nobody holds the service."""

    def ago(moment: int | None) -> float | None:
        return None if moment is None else round((state.now - moment) / 1000, 1)

    return {
        "service": state.id,
        "state": "held" if state.session_id else "free" if state.enabled else "disabled",
        "holder": state.owner,
        "heldSeconds": ago(state.started_at),
        "idleSeconds": ago(state.last_activity_at),
        "expiresInSeconds": None if state.expires_in is None else round(state.expires_in, 1),
        "queueLength": state.queue_length,
        "estimatedWaitSeconds": state.estimated_wait(state.queue_length + 1),
    }


def _login() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return str(os.getuid())


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 1e9:
        raise ValueError(text)
    return seconds


_seconds.__name__ = "seconds"  # argparse: "invalid seconds value"


def _age(text: str) -> Any:
    try:
        return pruning.age(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _reason(text: str) -> str:
    if not 0 < len(text.strip()) <= REASON_MAX:
        raise argparse.ArgumentTypeError("Please give a reason of at most 300 characters.")
    return text.strip()

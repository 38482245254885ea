#!/usr/bin/env python3
"""Restart all servers one after another, so that no request is lost.

    deploy/roll.py 127.0.0.1:8001 127.0.0.1:8002

Each server in turn is taken out of nginx by a file named after it (deploy/nginx.conf looks for it),
restarted, asked until it is ready, and put back. Its waiters are told to come back and keep their places; who
is being served is served to the end. A server that does not become ready stays out; the rest is left alone.
Needs nothing but Python. Run it where nginx runs, as somebody who may restart the servers.
"""

import argparse
import http.client
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SETTLE_SECONDS = 1.0
"""What nginx had already sent on its way when the server was taken out has arrived after this."""
READY_SECONDS = 180.0
POLL_SECONDS = 0.2


class NotRolled(Exception):  # noqa: N818
    """A sentence for the operator: what happened, how things are now, and what to do."""


def main() -> int:
    """0 if every server was restarted and serves again."""
    asked = arguments()
    try:
        roll(asked.servers, asked.out, asked.restart)
    except NotRolled as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Restart all servers one after another; no request is lost.")
    parser.add_argument("servers", nargs="+", metavar="HOST:PORT", help="as in nginx.conf, two at least")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("/run/leasehold/out"),
        metavar="DIRECTORY",
        help="where nginx looks for the files that take a server out (%(default)s)",
    )
    parser.add_argument(
        "--restart",
        default="systemctl restart leasehold@{port}",
        metavar="COMMAND",
        help="restarts one server and returns when the old process has ended (%(default)s)",
    )
    return parser.parse_args()


def roll(servers: Sequence[str], out: Path, restart: str) -> None:
    """Restart the servers in their order, those first that are out already. Raises NotRolled."""
    if len(set(servers)) < 2:
        raise NotRolled("Please name two servers at least: one has to serve while the other is restarted.")
    commands = {server: restart_command(server, restart) for server in servers}
    out.mkdir(parents=True, exist_ok=True)
    already_out = {file.name for file in out.iterdir()}
    if len(already_out) > 1 or not already_out <= set(servers):
        raise NotRolled(
            f"Out of nginx already: {', '.join(sorted(already_out))}. Please see to them first; a server is "
            f"put back by removing its file in {out}."
        )
    began = time.monotonic()
    for server in sorted(servers, key=lambda server: server not in already_out):
        others = [other for other in servers if other != server]
        if unready := [other for other in others if not is_ready(other)]:
            raise NotRolled(
                f"{server} was left alone, because {', '.join(unready)} would have to serve in its place and "
                "is not ready."
            )
        restart_one(server, out / server, commands[server])
    say("all", "restarted", began)


def restart_command(server: str, restart: str) -> list[str]:
    """What restarts this server. Raises NotRolled, while nobody is out yet."""
    host, _, port = server.rpartition(":")
    try:
        command = [part.format(host=host, port=port) for part in shlex.split(restart)]
    except (AttributeError, LookupError, ValueError) as error:
        raise NotRolled(
            f"--restart “{restart}” cannot be read. {{host}} and {{port}} stand for the server's; please "
            "write other braces twice, and close all quotes."
        ) from error
    if not command or shutil.which(command[0]) is None:
        raise NotRolled(f"--restart “{restart}” names no program that is there. Nothing was done.")
    return command


def restart_one(server: str, flag: Path, command: Sequence[str]) -> None:
    """Take one server out of nginx, restart it, and put it back. Raises NotRolled."""
    began = time.monotonic()
    flag.touch()
    say(server, "out of nginx", began)
    time.sleep(SETTLE_SECONDS)
    began = time.monotonic()
    stays_out = f"{server} stays out of nginx and the others serve. When it is ready, remove {flag}."
    try:
        code = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise NotRolled(f"“{shlex.join(command)}” could not be run: {error.strerror}. {stays_out}") from error
    if code:
        raise NotRolled(f"“{shlex.join(command)}” failed with {code}. {stays_out}")
    say(server, "stopped and started", began)
    began = time.monotonic()
    while not is_ready(server):
        if time.monotonic() - began > READY_SECONDS:
            raise NotRolled(f"{server} was not ready after {READY_SECONDS:.0f} s. {stays_out}")
        time.sleep(POLL_SECONDS)
    say(server, "ready", began)
    flag.unlink()
    say(server, "back in nginx", time.monotonic())


def is_ready(server: str) -> bool:
    """Whether the server says so itself at /readyz."""
    host, _, port = server.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def say(server: str, what: str, began: float) -> None:
    seconds = time.monotonic() - began
    print(f"{server:<16} {what:<20} {seconds:5.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())

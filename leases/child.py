"""A command that runs under a lease, and ends with it: `manage.py lease run`."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress

from leases.exceptions import LeaseLost
from leases.held import Held
from leases.holding import ahold, shut_down
from leases.turn import Turn

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOST = os.EX_TEMPFAIL
LOOK_SECONDS = 0.05  # how often to look whether a group that was told to end is gone
SHUT_DOWN_SECONDS = 5.0

# The first of the command's process group, before there is a command: it kills them all, itself too, unless
# it hears a line from us. If we are gone, whatever way, it does not.
GUARD = 'trap "" TERM INT HUP QUIT; read line || kill -s KILL 0'


class CannotRun(Exception):  # noqa: N818 - what it is, in the words of its message
    """There is no such command, or it cannot be executed; `code` is what a shell would exit with."""

    def __init__(self, error: OSError, command: str) -> None:
        missing = isinstance(error, FileNotFoundError)
        super().__init__(
            f"There is no command {command!r}: please check its name."
            if missing
            else f"{command!r} cannot be executed: {error.strerror}."
        )
        self.code = 127 if missing else 126


class Child:
    """A running command in a process group of its own, so that all that it starts can be told to end.

    If this process is killed, the group is killed too. The command has the terminal, if we had one to
    ourselves; then Ctrl-C is its affair. It cannot be suspended by Ctrl-Z: nobody else could use the service
    meanwhile. Raises CannotRun.
    """

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        self._guard = subprocess.Popen(  # noqa: S603 - a constant
            ["/bin/sh", "-c", GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        self._group = self._guard.pid
        try:
            self._process = subprocess.Popen(  # noqa: S603 - running what it is told is what it is for
                command, env={**os.environ, **environment}, process_group=self._group
            )
        except OSError as error:
            self._dismiss_guard()
            raise CannotRun(error, command[0]) from None
        self._terminal = _have_terminal()
        if self._terminal:
            os.tcsetpgrp(0, self._group)
            self.signal(signal.SIGCONT)  # it may have asked for the terminal a moment too early
        self._told_to_end = False
        self._ending = asyncio.get_running_loop().run_in_executor(None, self._process.wait)

    def signal(self, number: int) -> None:
        """Send a signal to the command and all that it started, as far as it still runs."""
        with suppress(ProcessLookupError):
            os.killpg(self._group, number)

    async def ended(self, *, within: float) -> int | None:
        """Its exit code, 128 + n for signal n; None if it still runs after so many seconds."""
        await asyncio.wait({self._ending}, timeout=within)
        if not self._ending.done():
            return None
        code = self._ending.result()
        return code if code >= 0 else 128 - code

    def tell_to_end(self) -> None:
        """Send SIGTERM, once: a second one may break off what a program does at its end."""
        if not self._told_to_end:
            self._told_to_end = True
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)  # what is stopped would not hear of it

    async def stop(self, grace: float) -> None:
        """End whatever still runs: by SIGTERM, and what is there after `grace` seconds by SIGKILL."""
        self.tell_to_end()
        self._dismiss_guard()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        while self._is_there() and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)  # nobody tells when a group is gone
        self.signal(signal.SIGKILL)
        await self._ending

    def close(self) -> None:
        """Take the terminal back, if the command had it."""
        if self._terminal:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # which we get for it in the background
            os.tcsetpgrp(0, os.getpgrp())

    def _is_there(self) -> bool:
        try:
            os.killpg(self._group, 0)
        except ProcessLookupError:
            return False
        return True

    def _dismiss_guard(self) -> None:
        if self._guard.poll() is None:
            self._guard.communicate(b"go\n")


class Run:
    """One command's way from the queue to its exit code.

    SIGTERM, SIGINT and SIGHUP leave the queue at once; once the command runs, they are passed on to it.
    `say` is told in a sentence why the command had to end.
    """

    def __init__(self, command: Sequence[str], grace: float, say: Callable[[str], None]) -> None:
        self._command = command
        self._grace = grace
        self._say = say
        self._child: Child | None = None
        self._signal: int | None = None
        self._over = False

    async def under_lease(self, service_id: str, owner: str, turn: Turn) -> int:
        """Wait for the service, run the command while it is held, and return the exit code.

        75 if the lease was lost, whatever the command itself said; 128 + n if signal n came in the queue.
        Raises ServiceBusy, UnknownService and CannotRun.
        """
        self._check()
        self._listen()
        try:
            async with ahold(service_id, owner, turn) as held:
                return await self._work(held)
        except LeaseLost as lost:
            self._say(str(lost))
            return LOST
        except asyncio.CancelledError:
            if self._signal is None:
                raise
            return 128 + self._signal
        finally:
            self._over = True
            await self._clear_up()

    def _check(self) -> None:
        """Nobody should wait an hour to learn of a misspelt name."""
        name = self._command[0]
        if shutil.which(name) is None:
            there = os.sep in name and os.path.exists(name)  # noqa: PTH110 - as `which` takes it
            error = PermissionError if there else FileNotFoundError
            raise CannotRun(error(0, "permission denied"), name)

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for number in PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
                loop.add_signal_handler(number, self._hear, number)

    def _hear(self, number: int) -> None:
        if self._child is not None:
            self._child.signal(number)
        elif not self._over and self._task is not None:
            self._signal = number
            self._task.cancel()

    async def _work(self, held: Held) -> int:
        """Run the command; nobody can tell whether it is idle, so that it counts as active until it ends."""
        grant = held.grant
        self._child = child = Child(
            self._command,
            LEASE_SERVICE=grant.service_id,
            LEASE_FENCING_TOKEN=str(grant.fencing_token),
        )
        try:
            while (code := await child.ended(within=held.until_beat() / 2)) is None:
                held.activity()
        except BaseException:
            child.tell_to_end()
            raise
        await child.stop(self._grace)  # what it left running would use the service without a lease
        return code

    async def _clear_up(self) -> None:
        if self._child is not None:
            await self._child.stop(self._grace)
            self._child.close()
        await shut_down(SHUT_DOWN_SECONDS)


def _have_terminal() -> bool:
    """Whether this process alone talks with a terminal: in a pipeline others need it, too."""
    return os.isatty(0) and os.isatty(1) and os.tcgetpgrp(0) == os.getpgrp()

"""A command that runs under a lease, and ends with it: `manage.py lease run`."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress

from django.db import DatabaseError, InterfaceError

from leases.exceptions import LeaseLost
from leases.held import Held
from leases.holding import ahold, shut_down
from leases.turn import Turn

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOST = os.EX_TEMPFAIL
LOOK_SECONDS = 0.05  # how often to look whether a group that was told to end is gone
LOOK_AGAIN_SECONDS = 0.5  # how long a command that left our group may be without the terminal
KILL_SECONDS = 5.0  # from SIGKILL until all should be gone
SHUT_DOWN_SECONDS = 5.0

# The first of the command's process group, before there is a command; it hears the command's number, and "go"
# when it is to leave. If we are gone, whatever way, it does not: then it kills the command, in whatever group
# that is by then, all of its own group, and itself.
GUARD = """
trap "" TERM INT HUP QUIT
while read word && [ "$word" != go ]; do pid=$word; done
[ "$word" = go ] || kill -s KILL -- ${pid:+"-$pid" "$pid"} 0
"""


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


class CannotStop(Exception):  # noqa: N818
    """Something of the command runs on, whatever was done."""

    def __init__(self) -> None:
        super().__init__(
            "The command, or something that it started, could not be stopped and may still use the service: "
            "it runs as another user, or hangs."
        )


class Child:
    """A running command in a process group of its own, so that all that it starts can be told to end.

    The command may make another group of itself, as `timeout` and `setsid` do: that is told, too. If this
    process is killed, so are they. The command has the terminal, if we had one to ourselves; then Ctrl-C is
    its affair. If others need it, too, the command reads nothing from it. It cannot be suspended by Ctrl-Z:
    nobody else could use the service meanwhile. Raises CannotRun.
    """

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._news.set)
        self._guard = subprocess.Popen(  # noqa: S603 - a constant
            ["/bin/sh", "-c", GUARD],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        self._groups = [self._guard.pid]
        self._terminal = _have_terminal()
        self._told_to_end = self._stopped = False
        try:
            self._process = subprocess.Popen(  # noqa: S603 - running what it is told is what it is for
                command,
                # Who reads a terminal that is not theirs is stopped, and would keep the service for nobody.
                stdin=subprocess.DEVNULL if os.isatty(0) and not self._terminal else None,
                env={**os.environ, **environment},
                process_group=self._guard.pid,
            )
        except OSError as error:
            self._dismiss_guard()
            raise CannotRun(error, command[0]) from None
        self._tell_guard_of_command()
        self._give_terminal_to(self._guard.pid)

    def signal(self, number: int) -> bool:
        """Send a signal to the command and all that it started, as far as it still runs.

        False if some of it may not be told by us: it runs as another user.
        """
        told = [_send(os.killpg, group, number) for group in self._groups]
        own = self._process.pid
        # Looked up after our group was told: what leaves it does so at any time.
        left_for = self._follow()
        if left_for == own:
            told.append(_send(os.killpg, own, number))
        elif self._process.returncode is None:
            # Told alone in a group that others made; in ours only asked whether it could be told.
            told.append(_send(os.kill, own, 0 if left_for is None else number))
        return all(told)

    def pass_on(self, number: int) -> bool:
        """Send a signal that asks to end, as `signal` does; what is stopped would not hear of it."""
        told = self.signal(number)
        self.signal(signal.SIGCONT)
        return told

    async def ended(self, *, within: float) -> int | None:
        """Its exit code, 128 + n for signal n; None if it still runs after so many seconds, or sooner."""
        if self._terminal:  # a group that the command makes is noticed when we look
            within = min(within, LOOK_AGAIN_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._news.wait()
        self._news.clear()
        code = self._collect()
        return code if code is None or code >= 0 else 128 - code

    def tell_to_end(self) -> None:
        """Send SIGTERM, once: a second one may break off what a program does at its end."""
        if not self._told_to_end:
            self._told_to_end = True
            self.pass_on(signal.SIGTERM)

    async def stop(self, grace: float) -> None:
        """End whatever still runs: by SIGTERM, and what is there after `grace` seconds by SIGKILL.

        Raises CannotStop, the first time.
        """
        if self._stopped:
            return
        self.tell_to_end()
        self._dismiss_guard()
        gone = await self._gone(grace)
        self._stopped = True
        if not gone and not await self._killed():
            raise CannotStop

    def close(self) -> None:
        """Take the terminal back, if the command had it."""
        self._give_terminal_to(os.getpgrp())

    def _follow(self) -> int | None:
        """The group for which the command has left those that we know; one that it made joins them."""
        if self._process.returncode is not None:  # collected: its number may be another's
            return None
        with suppress(ProcessLookupError):
            group = os.getpgid(self._process.pid)
            if group not in self._groups:
                if group == self._process.pid:
                    self._groups.append(group)
                    self._give_terminal_to(group)
                return group
        return None

    def _give_terminal_to(self, group: int) -> None:
        """Let it read the terminal and hear Ctrl-C, if the terminal was ours to give."""
        if self._terminal:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # which we get for it in the background
            with suppress(OSError):  # hung up, or the group is of another session
                os.tcsetpgrp(0, group)
                os.killpg(group, signal.SIGCONT)  # it may have asked for the terminal a moment too early

    def _collect(self) -> int | None:
        """What the command's end was, if it has ended; what it leaves behind can be found no later."""
        self._follow()
        return self._process.poll()

    async def _killed(self) -> bool:
        """Send SIGKILL; whether that was the end of it, but for zombies that nobody collects."""
        if self.signal(signal.SIGKILL) and await self._gone(KILL_SECONDS):
            return True
        return self.signal(signal.SIGKILL) and self._process.returncode is not None

    async def _gone(self, within: float) -> bool:
        """Wait until nothing of it runs any more, at most so many seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while self._is_there():
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)  # nobody tells when a group is gone
        return True

    def _is_there(self) -> bool:
        """Whether anything still runs. A group that is gone is forgotten: its number may be another's."""
        running = self._collect() is None
        if not running:
            self._collect_orphans()
        self._groups = [group for group in self._groups if _exists(group)]
        return running or bool(self._groups)

    def _collect_orphans(self) -> None:
        """As the first process of a container we get them: until they are collected, their group is there.

        Only once the command and the guard, our own children in these groups, are collected.
        """
        for group in self._groups:
            with suppress(ChildProcessError):
                while os.waitpid(-group, os.WNOHANG)[0]:
                    pass

    def _tell_guard_of_command(self) -> None:
        assert self._guard.stdin is not None  # noqa: S101 - a pipe
        with suppress(BrokenPipeError):  # the command may have ended it
            self._guard.stdin.write(f"{self._process.pid}\n".encode())

    def _dismiss_guard(self) -> None:
        if self._guard.poll() is None:
            self._guard.communicate(b"go\n")


def _send(send: Callable[[int, int], None], target: int, number: int) -> bool:
    """Send a signal to a process or a group, if it is there; False if it is another user's."""
    try:
        send(target, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


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

        75 if the lease was lost, whatever the command itself said, if the database could not be asked for it,
        or if the command could not be stopped; 128 + n if signal n came in the queue.
        Raises ServiceBusy, UnknownService and CannotRun.
        """
        self._check()
        self._listen()
        try:
            return await self._in_turn(service_id, owner, turn)
        except CannotStop as error:
            self._say(str(error))
            return os.EX_TEMPFAIL

    async def _in_turn(self, service_id: str, owner: str, turn: Turn) -> int:
        try:
            async with ahold(service_id, owner, turn) as held:
                return await self._work(held)
        except LeaseLost as lost:
            self._say(str(lost))
            return LOST
        except (DatabaseError, InterfaceError) as error:
            if self._child is not None:
                raise
            self._say(f"The database could not be asked for {service_id}: {_first_line(error)}.")
            return os.EX_TEMPFAIL
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
            if not self._child.pass_on(number):
                self._say("The command runs as another user: the signal could not be passed on to it.")
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
        try:
            if self._child is not None:
                await self._child.stop(self._grace)
        finally:
            if self._child is not None:
                self._child.close()
            await shut_down(SHUT_DOWN_SECONDS)


def _first_line(error: Exception) -> str:
    """What a database says at length, and with advice."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].strip().removesuffix(".")


def _have_terminal() -> bool:
    """Whether this process alone talks with a terminal: in a pipeline others need it, too."""
    return os.isatty(0) and os.isatty(1) and os.tcgetpgrp(0) == os.getpgrp()

"""manage.py lease: real processes, real signals, on the test's database."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from io import StringIO
from pathlib import Path
from select import select
from socket import gethostname
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from leases import mutex, operations, owners, pruning
from leases.models import Hold, Lease, Operation, Service, Tally, Ticket
from leases.status import state_of
from tests.chat.scripted_engine_server import ScriptedEngineServer
from tests.chat.test_faults import CHAT, site
from tests.chat.test_streams import Answers, next_event, streaming
from tests.database import ROOT, database_url, query
from tests.faults.conftest import Figure

pytestmark = pytest.mark.usefixtures("leases")

LLM, VECTORS = "lightweight-llm", "vector-convert"
FAST = {"LEASE_TTL": "3", "LEASE_HEARTBEAT": "0.2"}
HEARTBEAT = 0.2
SLACK = 3.0  # seconds that a busy machine may need more
PATIENCE = 60.0  # s: what a terminal does not show by then it never will

Run = Callable[..., "subprocess.Popen[str]"]
PidFrom = Callable[["subprocess.Popen[str]"], int]


@pytest.fixture(autouse=True)
def patient(settings: Settings) -> None:
    """What this process holds must not expire while a busy machine starts others."""
    settings.LEASE_TTL = settings.LEASE_IDLE_TIMEOUT = 300.0


def arguments(*words: str) -> list[str]:
    return [sys.executable, "manage.py", "lease", *words]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"DATABASE_URL": database_url()} | more


@pytest.fixture
def run() -> Iterator[Run]:
    """Start `lease run lightweight-llm OPTIONS -- COMMAND`; what still runs at the end is killed."""
    with ExitStack() as stack:

        def run(*command: str, options: tuple[str, ...] = (), **more: str) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                arguments("run", LLM, *options, "--", *command),
                cwd=ROOT,
                env=environment(**more),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


def finished(process: "subprocess.Popen[str]", code: int) -> tuple[str, str]:
    """What it said on both streams, once it has ended with this code."""
    said, complained = process.communicate(timeout=60)
    assert process.returncode == code, (said, complained)
    return said, complained


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def pid_from() -> Iterator[PidFrom]:
    """Read the number of a process that a command has started; it is killed at the end, if it still runs."""
    pids: list[int] = []

    def pid_from(process: "subprocess.Popen[str]") -> int:
        pids.append(int(line(process)))
        return pids[-1]

    yield pid_from
    for pid in pids:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)


def soon(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for what must come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether the process has ended; a zombie that nobody collects has."""
    return state(pid) in (None, "Z")


def state(pid: int) -> str | None:
    """What the process does, in one letter as `ps` has it; None if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def outcomes() -> list[str]:
    return list(Hold.objects.order_by("id").values_list("outcome", flat=True))


def queued() -> bool:
    return Ticket.objects.live().exists()


def force() -> None:
    token = Lease.objects.live().get(service=LLM).fencing_token
    assert operations.force_release(LLM, token, actor="ops", reason="needed")


class TestRun:
    def test_the_command_has_our_streams_and_knows_its_lease(self, run: Run) -> None:
        script = 'read word; echo "$word $LEASE_SERVICE $LEASE_FENCING_TOKEN"; echo oh >&2'
        process = run("sh", "-c", script, LOG_LEVEL="INFO")
        said, complained = process.communicate("hello\n", timeout=60)
        hold = Hold.objects.get()
        assert (said, complained) == (f"hello {LLM} {hold.fencing_token}\n", "oh\n")
        assert hold.owner.startswith(f"command:{gethostname()[: owners.HOST_MAX]}:{process.pid}:")
        assert (process.returncode, hold.outcome) == (0, "released")

    @pytest.mark.parametrize(
        ("script", "code"), [("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
    )
    def test_its_exit_code_is_passed_on(self, script: str, code: int, run: Run) -> None:
        assert finished(run("sh", "-c", script), code) == ("", "")
        assert outcomes() == ["released"]

    def test_options_of_the_command_are_its_own(self, run: Run) -> None:
        words = ["--wait", "--settings", "nowhere", "--", "-h"]
        said, _ = finished(run("echo", *words), 0)
        assert said.split() == words

    def test_what_cannot_be_run_is_said_at_once_and_without_waiting(self, run: Run, tmp_path: Path) -> None:
        mutex.acquire(LLM, "ann")
        for mode, name, code in ((None, "missing", 127), (0o644, "plain", 126)):
            file = tmp_path / name
            if mode is not None:
                file.touch(mode)
            said, complained = finished(run(str(file)), code)
            assert said == ""
            assert str(file) in complained
        assert not Ticket.objects.exists()

    def test_what_turns_out_not_to_run_is_said_and_released(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "nonsense"
        file.write_bytes(b"\x00nonsense")
        file.chmod(0o755)
        assert "cannot be executed" in finished(run(str(file)), 126)[1]
        assert outcomes() == ["released"]

    @pytest.mark.parametrize(
        ("wait", "reason"), [("0", "Someone else is using"), ("0.3", "after 0.3 seconds")]
    )
    def test_a_busy_service_is_said(self, wait: str, reason: str, run: Run) -> None:
        mutex.acquire(LLM, "ann")
        said, complained = finished(run("echo", "ran", options=("--wait", wait)), os.EX_TEMPFAIL)
        assert said == ""
        assert reason in complained
        assert not Ticket.objects.exists()

    def test_a_disabled_service_says_its_note(self, run: Run) -> None:
        operations.disable(LLM, actor="ops", note="Back at noon.")
        assert finished(run("echo", "ran"), os.EX_TEMPFAIL) == ("", "Back at noon.\n")

    def test_a_database_that_does_not_answer_is_said(self, run: Run, tmp_path: Path) -> None:
        process = run("echo", "ran", DATABASE_URL=f"sqlite:///{tmp_path}/none/db.sqlite3")
        said, complained = finished(process, os.EX_TEMPFAIL)
        assert said == ""
        assert complained == f"The database could not be asked for {LLM}: unable to open database file.\n"

    def test_an_unknown_service_is_a_mistake(self) -> None:
        for words in (
            ("run", "nothing", "--", "true"),
            ("release", "nothing", "--reason", "x"),
            ("run", LLM),
        ):
            process = subprocess.run(
                arguments(*words), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
            )
            assert (process.returncode, process.stdout) == (os.EX_USAGE, "")
            assert process.stderr

    def test_it_waits_its_turn_and_says_so(self, run: Run) -> None:
        grant = mutex.acquire(LLM, "ann")
        first = run("sh", "-c", "echo ready; read word")
        soon(lambda: state_of(LLM).queue_length == 1)
        second = run("echo", "ran")
        assert second.stderr is not None
        assert second.stderr.readline().startswith(f"Waiting for {LLM}: place 2 in the queue")
        mutex.release(grant)
        assert line(first) == "ready"
        assert second.stderr.readline().startswith(f"Waiting for {LLM}: place 1 in the queue")
        _, complained = first.communicate("\n", timeout=60)
        assert complained == f"Waiting for {LLM}: place 1 in the queue.\n"
        assert finished(second, 0) == ("ran\n", "")

    def test_a_silent_command_counts_as_active(self, run: Run) -> None:
        finished(run("sleep", "3", **FAST, LEASE_IDLE_TIMEOUT="1"), 0)
        assert outcomes() == ["released"]

    def test_what_the_command_leaves_running_ends_before_the_next_one_begins(
        self, run: Run, tmp_path: Path
    ) -> None:
        diary = tmp_path / "diary"
        straggler = (
            """trap 'sleep 0.5; echo end >> "$0"; exit' TERM; echo ready; while :; do sleep 0.05; done"""
        )
        first = run("sh", "-c", f"({straggler}) & read word", str(diary))
        assert line(first) == "ready"
        second = run("sh", "-c", 'echo begin >> "$0"', str(diary))
        soon(queued)
        first.communicate("\n", timeout=60)
        assert first.returncode == 0
        finished(second, 0)
        assert diary.read_text() == "end\nbegin\n"
        assert outcomes() == ["released", "released"]

    @pytest.mark.parametrize("first", [(), ("setsid",)], ids=["in our group", "in its own"])
    def test_as_the_first_process_of_a_container_it_waits_for_no_zombie(self, first: tuple[str, ...]) -> None:
        command = (*first, "sh", "-c", "sleep 1000 & exit 3")
        words = arguments("run", LLM, "--grace", "300", "--", *command)
        process = subprocess.run(
            [sys.executable, "-c", ADOPTING, *words], cwd=ROOT, env=environment(), timeout=60, check=False
        )
        assert process.returncode == 3

    async def test_it_waits_behind_a_chat_on_the_site(self, run: Run) -> None:
        answers = Answers()
        async with ScriptedEngineServer({CHAT: answers}) as engine, site(engine.base_url) as client:
            async with streaming(client) as stream:
                await next_event(stream, "token")
                process = run("echo", "ran")
                await query(soon, queued)
                answers.go_on.set()
                await next_event(stream, "done")
            assert (await asyncio.to_thread(finished, process, 0))[0] == "ran\n"
        assert await query(outcomes) == ["released", "released"]


# PR_SET_CHILD_SUBREAPER: orphans come to this process, as they do to the first one.
ADOPTING = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


DIARY = 'echo "begin $$" >> "$0"; read word; echo "end $$" >> "$0"'


def overlaps(diary: str) -> int:
    """How many begin while another has not ended."""
    inside: set[str] = set()
    found = 0
    for row in diary.splitlines():
        event, who = row.split()
        found += event == "begin" and bool(inside)
        (inside.add if event == "begin" else inside.discard)(who)
    return found


class TestExclusion:
    def test_two_commands_never_run_at_once(self, run: Run, tmp_path: Path) -> None:
        diary = tmp_path / "diary"
        first = run("sh", "-c", DIARY, str(diary))
        soon(lambda: diary.exists() and len(diary.read_text().splitlines()) == 1)
        second = run("sh", "-c", DIARY, str(diary))
        soon(queued)
        assert len(diary.read_text().splitlines()) == 1
        for process in (first, second):
            process.communicate("\n", timeout=60)
            assert process.returncode == 0
        assert len(diary.read_text().splitlines()) == 4
        assert overlaps(diary.read_text()) == 0

    def test_of_a_crowd_one_at_a_time(self, run: Run, tmp_path: Path, figure: Figure) -> None:
        diary, many = tmp_path / "diary", 6
        script = 'for n in 1 2 3; do echo "begin $$" >> "$0"; sleep 0.05; echo "end $$" >> "$0"; done'
        began = time.monotonic()
        processes = [run("sh", "-c", script, str(diary)) for _ in range(many)]
        for process in processes:
            finished(process, 0)
        figure(
            f"{many} commands at once, {time.monotonic() - began:.1f} s, "
            f"{overlaps(diary.read_text())} overlaps"
        )
        assert len(diary.read_text().splitlines()) == many * 6
        assert overlaps(diary.read_text()) == 0
        assert outcomes() == ["released"] * many

    def test_the_control_without_a_lease_overlaps(self, tmp_path: Path) -> None:
        diary = tmp_path / "diary"
        with ExitStack() as stack:
            processes = []
            for number in (1, 2):
                process = subprocess.Popen(["sh", "-c", DIARY, str(diary)], stdin=subprocess.PIPE, text=True)
                processes.append(stack.enter_context(process))
                soon(lambda many=number: diary.exists() and len(diary.read_text().splitlines()) == many)  # type: ignore[misc]
            for process in processes:
                process.communicate("\n", timeout=60)
        assert overlaps(diary.read_text()) == 1


STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
print("ready", flush=True)
while True:
    time.sleep(0.01)
"""


class TestLoss:
    def test_a_forced_end_stops_the_command_and_says_why(self, run: Run, figure: Figure) -> None:
        process = run(
            "sh", "-c", "trap 'echo told; exit 0' TERM; echo $$; while :; do sleep 0.05; done", **FAST
        )
        pid = int(line(process))
        force()
        forced = time.monotonic()
        assert line(process) == "told"
        told = time.monotonic() - forced
        _, complained = finished(process, os.EX_TEMPFAIL)
        figure(f"told {told:.2f} s after the forced end, with a heartbeat of {HEARTBEAT} s")
        assert told < HEARTBEAT + SLACK
        assert "ended by an administrator" in complained
        assert gone(pid)
        assert outcomes() == ["forced"]

    def test_who_will_not_hear_is_killed_after_the_grace_with_all_that_it_started(
        self, run: Run, figure: Figure
    ) -> None:
        script = "trap '' TERM; sleep 1000 & echo $!; echo $$; while :; do sleep 0.05; done"
        process = run("sh", "-c", script, options=("--grace", "1"), **FAST)
        pids = [int(line(process)), int(line(process))]
        force()
        forced = time.monotonic()
        finished(process, os.EX_TEMPFAIL)
        took = time.monotonic() - forced
        figure(f"killed {took:.2f} s after the forced end, with a grace of 1 s")
        assert 1 <= took < 1 + HEARTBEAT + 3 * SLACK
        assert all(map(gone, pids))

    def test_sigterm_comes_once(self, run: Run) -> None:
        process = run(sys.executable, "-c", STUBBORN, options=("--grace", "1"), **FAST)
        assert line(process) == "ready"
        force()
        assert finished(process, os.EX_TEMPFAIL)[0] == "told\n"

    def test_a_holder_that_was_stopped_finds_its_lease_gone(self, run: Run) -> None:
        process = run("sh", "-c", "echo $$; exec sleep 1000", LEASE_TTL="1.5", LEASE_HEARTBEAT="0.3")
        pid = int(line(process))
        process.send_signal(signal.SIGSTOP)
        soon(lambda: mutex.try_acquire(LLM, "bob") is not None)
        process.send_signal(signal.SIGCONT)
        _, complained = finished(process, os.EX_TEMPFAIL)
        assert "Your session was lost" in complained
        assert gone(pid)
        assert Lease.objects.live().get().owner == "bob"

    def test_if_we_are_killed_so_is_the_command(self, run: Run, figure: Figure) -> None:
        script = "sleep 1000 & echo $!; echo $$; wait"
        process = run("sh", "-c", script, LEASE_TTL="2", LEASE_HEARTBEAT="0.3")
        pids = [int(line(process)), int(line(process))]
        process.kill()
        killed = time.monotonic()
        soon(lambda: all(map(gone, pids)), 5)
        figure(f"killed with its holder, after {time.monotonic() - killed:.3f} s; the TTL is 2 s")
        assert not outcomes(), "it was gone before its lease"
        soon(lambda: mutex.try_acquire(LLM, "bob") is not None)
        figure(f"free for the next {time.monotonic() - killed:.1f} s after")
        assert outcomes() == ["lost"]


LEAVING = pytest.mark.parametrize("first", [("timeout", "300"), ("setsid",)], ids=lambda words: words[0])


class TestLeaving:
    """Commands that leave our process group at their start: what they run stays ours to stop."""

    @LEAVING
    def test_a_forced_end_stops_it(self, first: tuple[str, ...], run: Run, pid_from: PidFrom) -> None:
        script = "trap 'echo told; exit 0' TERM; echo $$; while :; do sleep 0.05; done"
        process = run(*first, "sh", "-c", script, **FAST)
        pid = pid_from(process)
        force()
        said, complained = finished(process, os.EX_TEMPFAIL)
        assert "told" in said
        assert "ended by an administrator" in complained
        assert gone(pid)
        assert outcomes() == ["forced"]

    @LEAVING
    def test_it_is_killed_after_the_grace(self, first: tuple[str, ...], run: Run, pid_from: PidFrom) -> None:
        script = "trap '' TERM; sleep 1000 & echo $!; echo $$; while :; do sleep 0.05; done"
        process = run(*first, "sh", "-c", script, options=("--grace", "1"), **FAST)
        pids = [pid_from(process), pid_from(process)]
        force()
        finished(process, os.EX_TEMPFAIL)
        assert all(map(gone, pids))

    @LEAVING
    def test_sigterm_is_passed_on(self, first: tuple[str, ...], run: Run, pid_from: PidFrom) -> None:
        process = run(*first, sys.executable, "-c", LISTENING)
        pid_from(process)
        process.terminate()
        assert finished(process, 7)[0] == "told\n"
        assert outcomes() == ["released"]

    @LEAVING
    def test_if_we_are_killed_so_is_it(self, first: tuple[str, ...], run: Run, pid_from: PidFrom) -> None:
        script = "trap 'echo told' INT; sleep 1000 & echo $!; echo $$; while :; do wait; done"
        process = run(*first, "sh", "-c", script, LEASE_TTL="60")
        pids = [pid_from(process), pid_from(process)]
        process.send_signal(signal.SIGINT)
        assert line(process) == "told", "by then the guard knows of the command"
        process.kill()
        soon(lambda: all(map(gone, pids)), 5)
        assert not outcomes(), "it was gone before its lease"

    def test_what_it_leaves_running_ends_with_it(self, run: Run, pid_from: PidFrom) -> None:
        process = run("setsid", "sh", "-c", "sleep 1000 >&2 & echo $!; exit 3")
        pid = pid_from(process)
        finished(process, 3)
        assert gone(pid)

    def test_what_goes_back_to_our_group_is_told_alone(self, run: Run, pid_from: PidFrom) -> None:
        process = run(sys.executable, "-c", COMING_BACK, **FAST)
        pid_from(process)
        force()
        assert "ended by an administrator" in finished(process, os.EX_TEMPFAIL)[1]


class TestAnotherUsers:
    """Commands that run as another user, as of a setuid program: nobody may tell them anything."""

    SCRIPT = "echo $$; exec sleep 1000 > /dev/null 2>&1"

    def test_what_cannot_be_stopped_is_said(self, pid_from: PidFrom) -> None:
        words = arguments("run", LLM, "--grace", "0.1", "--", "sh", "-c", self.SCRIPT)
        with subprocess.Popen(
            [words[0], "-c", FORBIDDEN, *words[1:]],
            cwd=ROOT,
            env=environment(**FAST),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            pid = pid_from(process)
            process.terminate()
            assert process.stderr is not None
            assert "could not be passed on" in process.stderr.readline()
            force()
            complained = finished(process, os.EX_TEMPFAIL)[1]
        assert [line.split(".")[0] for line in complained.splitlines()] == [
            "Your session was ended by an administrator",
            "The command, or something that it started, could not be stopped and may still use the service: "
            "it runs as another user, or hangs",
        ]
        assert not gone(pid)


FORBIDDEN = """
import os, runpy, sys
def forbidden(target, number):
    raise PermissionError
os.kill = os.killpg = forbidden
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

LISTENING = """
import os, signal, sys
def told(number, _):
    signal.signal(number, signal.SIG_IGN)  # `timeout` tells it again
    os.write(1, b"told\\n")
    os._exit(7)
signal.signal(signal.SIGTERM, told)
signal.signal(signal.SIGINT, told)
if sys.stdin.isatty():
    print("hello", flush=True)
    print("got", input(), flush=True)
else:
    print(os.getpid(), flush=True)
while True:
    signal.pause()
"""

COMING_BACK = """
import os, signal
os.setpgid(0, os.getpgid(os.getppid()))
print(os.getpid(), flush=True)
signal.pause()
"""


SIGNALS = pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name
)


class TestSignals:
    @SIGNALS
    def test_in_the_queue_it_leaves_at_once(self, number: signal.Signals, run: Run) -> None:
        mutex.acquire(LLM, "ann")
        process = run("echo", "ran")
        soon(queued)
        process.send_signal(number)
        assert finished(process, 128 + number)[0] == ""
        assert not Ticket.objects.exists()
        assert outcomes() == []

    @SIGNALS
    def test_while_the_command_runs_it_is_passed_on(self, number: signal.Signals, run: Run) -> None:
        name = number.name.removeprefix("SIG")
        script = f"trap 'echo told; exit 7' {name}; echo ready; while :; do sleep 0.05; done"
        process = run("sh", "-c", script)
        assert line(process) == "ready"
        process.send_signal(number)
        assert finished(process, 7)[0] == "told\n"
        assert outcomes() == ["released"]

    def test_a_command_that_dies_of_it_is_told_so_by_the_exit_code(self, run: Run) -> None:
        process = run("sh", "-c", "echo ready; exec sleep 1000")
        assert line(process) == "ready"
        process.terminate()
        finished(process, 128 + signal.SIGTERM)
        assert outcomes() == ["released"]

    def test_what_was_ignored_before_stays_ignored(self) -> None:
        """As nohup wants it: it is not passed on either, since the command ignores it, too."""
        look = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
        words = arguments("run", LLM, "--", sys.executable, "-c", look)
        process = subprocess.run(
            ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *words],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert process.stdout == "True\n"


class TestTerminal:
    def test_the_command_has_the_terminal_and_ctrl_c_is_its_affair(self) -> None:
        # Short sleeps: a shell that is told while it starts a command answers when that has ended.
        with Terminal(
            "sh", "-c", "trap 'echo told; exit 9' INT; read word; echo got $word; while :; do sleep 0.1; done"
        ) as tty:
            tty.write("hello\n")
            tty.read_until("got hello")
            tty.write("\x1a")  # Ctrl-Z, which must not keep the service for nobody
            tty.write("\x03")
            assert tty.read_until("told").count("told") == 1
            assert tty.code() == 9
        assert outcomes() == ["released"]

    def test_a_command_that_makes_a_group_of_its_own_has_it_too(self) -> None:
        with Terminal("timeout", "300", sys.executable, "-c", LISTENING) as tty:
            tty.read_until("hello")
            tty.write("word\n")
            tty.read_until("got word")
            tty.write("\x03")
            tty.read_until("told")
            assert tty.code() == 7
        assert outcomes() == ["released"]

    def test_ctrl_c_in_the_queue_leaves_it(self) -> None:
        mutex.acquire(LLM, "ann")
        with Terminal("true") as tty:
            tty.read_until("place 1")
            tty.write("\x03")
            assert tty.code() == 128 + signal.SIGINT
        assert not Ticket.objects.exists()

    def test_with_its_output_elsewhere_the_command_reads_nothing_from_it(self, tmp_path: Path) -> None:
        """In the background it would stop at its first word, and keep the service for nobody."""
        with Terminal("sh", "-c", "read word; echo got $?", output=tmp_path / "out") as tty:
            assert tty.code() == 0
        assert (tmp_path / "out").read_text() == "got 1\n"

    @pytest.mark.parametrize("end", ["ctrl-c", "SIGTERM", "hang-up"])
    def test_a_command_that_has_stopped_hears_it_nevertheless(self, end: str, tmp_path: Path) -> None:
        """Who asks the terminal itself, as for a password, still stops."""
        with Terminal("sh", "-c", "echo $$; read word < /dev/tty", output=tmp_path / "out") as tty:
            soon(lambda: (tmp_path / "out").exists() and (tmp_path / "out").read_text().endswith("\n"))
            pid = int((tmp_path / "out").read_text())
            soon(lambda: state(pid) == "T")
            if end == "ctrl-c":
                tty.write("\x03")
                number = signal.SIGINT
            elif end == "SIGTERM":
                tty.terminate()
                number = signal.SIGTERM
            else:
                tty.hang_up()
                number = signal.SIGHUP
            assert tty.code() == 128 + number
        assert gone(pid)
        assert outcomes() == ["released"]


class Terminal:
    """`lease run lightweight-llm -- COMMAND` in a terminal of its own, its output there or in a file."""

    def __init__(self, *command: str, output: Path | None = None) -> None:
        words = arguments("run", LLM, "--", *command)
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            if output is not None:
                os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 1)
            os.chdir(ROOT)
            os.execve(words[0], words, environment())  # noqa: S606
        self._code: int | None = None

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *error: object) -> None:
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        if self._fd != -1:
            os.close(self._fd)

    def write(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def terminate(self) -> None:
        os.kill(self._pid, signal.SIGTERM)

    def hang_up(self) -> None:
        """Close the terminal, as its window does."""
        os.close(self._fd)
        self._fd = -1

    def read_until(self, text: str) -> str:
        found = ""
        while text not in found:
            assert select([self._fd], [], [], PATIENCE)[0], f"no {text!r} in {found!r}"
            found += os.read(self._fd, 1000).decode()
        return found

    def code(self) -> int:
        status: int | None = None

        def ended() -> bool:
            nonlocal status
            pid, found = os.waitpid(self._pid, os.WNOHANG)
            status = found if pid else None
            return bool(pid)

        soon(ended)
        assert status is not None
        self._code = os.waitstatus_to_exitcode(status)
        return self._code


def told(*words: str) -> str:
    """What the command prints in this process."""
    out = StringIO()
    call_command("lease", *words, stdout=out)
    return out.getvalue()


class TestStart:
    def test_it_loads_no_page_and_no_engine(self) -> None:
        started = subprocess.run(
            [sys.executable, "-X", "importtime", "manage.py", "lease", "status"],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = {line.rpartition("|")[2].strip() for line in started.stderr.splitlines()}
        assert "leases.mutex" in loaded
        assert not loaded & {"chat.views", "leases.views", "aiohttp", "onnxruntime", "xllamacpp"}

    def test_wrong_settings_are_said_before_anything_is_done(self) -> None:
        process = subprocess.run(
            arguments("run", LLM, "--", "echo", "done"),
            cwd=ROOT,
            env=environment(LEASE_TTL="0"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode != 0
        assert "LEASE_TTL is 0" in process.stderr
        assert process.stdout == ""


class TestStatus:
    def test_it_shows_who_holds_what_and_who_waits(self) -> None:
        mutex.release(mutex.acquire(LLM, "before"))
        mutex.acquire(LLM, "user:7")
        mutex.enqueue(LLM, "bob", "b" * 32)
        Service.objects.filter(pk=VECTORS).update(enabled=False)
        header, llm, vectors = told("status").splitlines()
        assert header.split()[:3] == ["service", "state", "holder"]
        assert llm.split()[:3] == [LLM, "held", "user:7"]
        assert vectors.split() == [VECTORS, "disabled", "-", "-", "-", "-", "0", "-"]
        held, _ = json.loads(told("status", "--json"))
        assert (held["service"], held["holder"], held["queueLength"]) == (LLM, "user:7", 1)
        assert held["expiresInSeconds"] == pytest.approx(300, abs=1)
        assert held["heldSeconds"] == held["idleSeconds"] == pytest.approx(0, abs=1)
        assert held["estimatedWaitSeconds"] is not None

    def test_it_takes_one_query(self) -> None:
        mutex.acquire(LLM, "user:7")
        with CaptureQueriesContext(connection) as queries:
            told("status")
        assert len(queries) == 1


class TestRelease:
    def test_it_ends_the_session_and_is_recorded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOGNAME", "carla")
        mutex.acquire(LLM, "user:7")
        assert "user:7" in told("release", LLM, "--reason", " stuck ")
        hold, deed = Hold.objects.get(), Operation.objects.get()
        assert (hold.outcome, hold.ended_by, hold.reason) == ("forced", "shell:carla", "stuck")
        assert (deed.deed, deed.actor, deed.subject) == ("force_release", "shell:carla", "user:7")

    def test_nobody_to_end_is_said(self) -> None:
        with pytest.raises(CommandError, match="Nobody holds") as error:
            told("release", LLM, "--reason", "stuck")
        assert error.value.returncode == 1
        assert not Operation.objects.exists()

    @pytest.mark.parametrize("reason", [" ", "x" * 301])
    def test_it_wants_a_reason(self, reason: str) -> None:
        mutex.acquire(LLM, "user:7")
        with pytest.raises(CommandError, match="reason"):
            told("release", LLM, "--reason", reason)
        assert Lease.objects.live().exists()


def history(many: int, *, days: float, first: int = 1) -> None:
    """So many sessions that ended so long ago."""
    moment = Service.objects.annotate(now=Now()).values_list("now", flat=True)[0] - timedelta(days=days)
    Hold.objects.bulk_create(
        (
            Hold(
                service_id=LLM,
                session_id=f"{first + number:032x}",
                owner="user:7",
                fencing_token=10**9 + first + number,
                started_at=moment,
                last_activity_at=moment,
                ended_at=moment,
                outcome="released",
            )
            for number in range(many)
        ),
        batch_size=1000,
    )


class TestPrune:
    def test_old_history_goes_and_everything_else_stays(self) -> None:
        mutex.release(mutex.acquire(LLM, "ann"))
        history(5, days=31)
        history(3, days=29, first=100)
        grant = mutex.acquire(LLM, "bob")
        tally = list(Tally.objects.values())
        assert told("prune", "--older-than", "30d") == "Deleted 5 ended sessions from the history.\n"
        assert told("prune", "--older-than", "30d") == "Deleted 0 ended sessions from the history.\n"
        assert Hold.objects.count() == 4
        assert mutex.confirm(grant)
        assert list(Tally.objects.values()) == tally
        assert told("prune", "--older-than", "4w").split()[1] == "3"

    @pytest.mark.parametrize("age", ["", "30", "d", "-1d", "0d", "1.5d", "30 d", "30y", "100000s"])
    def test_what_is_no_age_is_said(self, age: str) -> None:
        history(1, days=20_000)
        with pytest.raises(CommandError, match="such as 30d"):
            told("prune", f"--older-than={age}")
        assert Hold.objects.exists()

    def test_no_statement_looks_at_more_than_a_batch(
        self, monkeypatch: pytest.MonkeyPatch, figure: Figure, full: bool
    ) -> None:
        many = 1_000_000 if full else 5000
        history(many, days=31)
        if not full:
            monkeypatch.setattr(pruning, "BATCH", 700)
        sizes: list[int] = []

        def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            result = execute(sql, params, many, context)
            if sql.startswith("DELETE"):
                sizes.append(context["cursor"].rowcount)
            return result

        began = time.monotonic()
        with connection.execute_wrapper(watch):
            assert pruning.prune(timedelta(days=30)) == many
        figure(f"{many} sessions pruned in {time.monotonic() - began:.1f} s, {len(sizes)} statements")
        assert sum(sizes) == many
        assert max(sizes) <= pruning.BATCH


def test_an_owner_fits_its_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "gethostname", lambda: "h" * 200)
    monkeypatch.setattr(owners, "getpid", lambda: 4_194_304)
    assert len(owners.command_owner()) <= 80
    assert ":4194304:" in owners.command_owner()


def test_two_commands_are_two_owners_even_in_containers_that_share_their_hosts_name() -> None:
    """There each may be process 1."""
    assert owners.command_owner() != owners.command_owner()

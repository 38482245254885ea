"""Many real processes, forked from one that has loaded Django: a process each, a second for all.

    python -m tests.faults.crowd MODULE:FUNCTION COUNT JSON

Each child calls `function(number, **arguments)` of the JSON object, all from the same moment on. The
parent prints the children's pids as a JSON list, waits for a line, lets them go, and prints their exit
codes when all have ended; a child that was killed has a negative one.
"""

import json
import os
import random
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from signal import SIGKILL
from typing import Any

import django

from tests.database import start_python


def main(target: str, count: int, arguments: dict[str, Any]) -> None:
    django.setup()
    module, name = target.split(":")
    function = getattr(import_module(module), name)
    gate, opener = os.pipe()
    pids = []
    for number in range(count):
        if (pid := os.fork()) == 0:
            os.close(opener)
            os.read(gate, 1)  # ends for all when the parent closes its side
            os._exit(_run(function, number, arguments))
        pids.append(pid)
    os.close(gate)
    print(json.dumps(pids), flush=True)
    sys.stdin.readline()
    os.close(opener)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    print(json.dumps(codes), flush=True)


def _run(function: Any, number: int, arguments: dict[str, Any]) -> int:
    random.seed(f"{arguments.get('seed', 0)} {number}")
    try:
        function(number, **arguments)
    except BaseException:  # noqa: BLE001 - whatever it is, the exit code tells
        traceback.print_exc()
        return 1
    return 0


class Crowd:
    """The running children: their `pids`, and how they end."""

    def __init__(self, process: Any, pids: list[int]) -> None:
        self._process = process
        self.pids = pids

    def go(self) -> None:
        """Let all of them begin."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait(self, seconds: float) -> list[int]:
        """Their exit codes, once all have ended."""
        output: str = self._process.communicate(timeout=seconds)[0]
        codes: list[int] = json.loads(output)
        return codes


@contextmanager
def crowd(target: str, count: int, *, environment: dict[str, str], **arguments: Any) -> Iterator[Crowd]:
    """Processes that stand at the start; whatever of them is left at the end is killed by its pid."""
    process = start_python("tests.faults.crowd", target, str(count), json.dumps(arguments), **environment)
    pids: list[int] = []
    try:
        assert process.stdout is not None
        pids = json.loads(process.stdout.readline())
        yield Crowd(process, pids)
    finally:
        if process.poll() is None:
            for pid in pids:
                try:
                    os.kill(pid, SIGKILL)
                except ProcessLookupError:
                    pass
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))

"""Runs the extraction of text in a child process, with limits of time and memory that hold for any file."""

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO, Any

from documents.extraction import (
    Extracted,
    ExtractionBusy,
    ExtractionError,
    NoText,
    UnreadableFile,
    UnsupportedFile,
    check,
)

TIME_LIMIT = 30.0  # seconds
MEMORY_LIMIT = 1 << 30  # bytes of address space
MAX_CHILDREN = 2
MAX_WAIT = 20.0  # seconds for a free place

_ROOT = Path(__file__).parents[1]
_MAX_ANSWER_BYTES = 64_000_000  # the most characters, at up to 4 bytes, with escapes and page offsets
_READ_BYTES = 1 << 16
_ERRORS = {error.__name__: error for error in (NoText, UnreadableFile, UnsupportedFile)}

_places = BoundedSemaphore(MAX_CHILDREN)
_log = logging.getLogger(__name__)


def extract(
    file_name: str,
    content: bytes,
    *,
    time_limit: float = TIME_LIMIT,
    memory_limit: int = MEMORY_LIMIT,
    max_wait: float = MAX_WAIT,
) -> Extracted:
    """The text of an uploaded file, read in a child process. Blocks the calling thread.

    `time_limit` and `max_wait` in seconds, `memory_limit` in bytes. Raises UnsupportedFile,
    UnreadableFile (which includes files that run away or crash their parser), NoText, or
    ExtractionBusy when no place became free within `max_wait`.
    """
    suffix = check(file_name, content)
    if not _places.acquire(timeout=max_wait):
        raise ExtractionBusy("We are reading many files at this moment. Please try again in a minute.")
    try:
        answer = _run(suffix, content, time_limit, memory_limit)
    finally:
        _places.release()
    return _understood(answer, suffix)


def _run(suffix: str, content: bytes, time_limit: float, memory_limit: int) -> bytes:
    """What the child said within its time. The child and its whole group are gone when this returns."""
    deadline = time.monotonic() + time_limit
    with tempfile.TemporaryFile() as source:
        source.write(content)
        source.seek(0)
        process = subprocess.Popen(  # noqa: S603 - fixed program, arguments of our own
            [
                sys.executable,
                *("-B", "-s", "-m", "documents.extraction"),
                *(suffix, str(os.getpid()), str(time_limit), str(memory_limit)),
            ],
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd=_ROOT,
            start_new_session=True,
        )
    try:
        if process.stdout is None:
            raise RuntimeError("The child was started without a pipe.")
        with process.stdout:
            return _read(process.stdout, deadline)
    finally:
        _end(process)


def _read(pipe: IO[bytes], deadline: float) -> bytes:
    """All that comes through the pipe until its end. Raises UnreadableFile past the deadline or the bound."""
    answer = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                break
            part = os.read(pipe.fileno(), _READ_BYTES)
            if not part:
                return bytes(answer)
            answer += part
            if len(answer) > _MAX_ANSWER_BYTES:
                break
    _log.warning("Reading a file was stopped after %d bytes of answer.", len(answer))
    raise UnreadableFile(
        "This file takes too long to read. Please save it in a simpler form, such as plain text, or split it."
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the child's group, while the unreaped child still keeps the number from being given anew."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # already ended; some systems then say "not permitted"
        process.kill()
    process.wait()


def _understood(answer: bytes, suffix: str) -> Extracted:
    try:
        said: dict[str, Any] = json.loads(answer)
    except ValueError:  # nothing, or not all of it: the child crashed or was ended by the kernel
        said = {"crash": "no answer"}
    if "text" in said:
        return Extracted(said["text"], said["pages"], said["content_type"])
    if "error" in said:
        error: type[ExtractionError] = _ERRORS[said["error"]]
        raise error(said["message"])
    _log.warning("Reading a %s file failed: %s.", suffix, said["crash"])
    if said["crash"] in {"MemoryError", "no answer"}:
        raise UnreadableFile(
            "This file is too complicated to read, or damaged. "
            "Please open it in the program it came from, save it again and upload the new copy."
        )
    raise UnreadableFile(
        "This file is damaged and cannot be read. "
        "Please open it in the program it came from, save it again and upload the new copy."
    )

"""The child process of `documents.sandbox`: a file on standard input, its text as JSON on standard output.

Arguments: the file's name ending, the parent's process id, seconds of running time, bytes of memory.
The limits are set before any parser is imported.
"""

import ctypes
import json
import math
import os
import resource
import signal
import sys

from documents.extraction import ExtractionError, extract

_MAX_OPEN_FILES = 64
_PR_SET_PDEATHSIG = 1


def main() -> None:
    suffix, parent, seconds, memory = sys.argv[1:]
    _die_with(int(parent))
    _limit(float(seconds), int(memory))
    content = sys.stdin.buffer.read()
    answer: dict[str, object]
    try:
        extracted = extract(f"file{suffix}", content)
        answer = {"text": extracted.text, "pages": extracted.pages, "content_type": extracted.content_type}
    except ExtractionError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a parser trips over; only its kind is told
        answer = {"crash": type(error).__name__}
    sys.stdout.buffer.write(json.dumps(answer, ensure_ascii=False).encode())
    sys.stdout.buffer.flush()
    os._exit(0)  # the answer is complete; tearing down a large tree would only take time


def _die_with(parent: int) -> None:
    """On Linux, ends this process with its parent. Elsewhere the alarm in `_limit` does, a little later."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        sys.exit(1)


def _limit(seconds: float, memory: int) -> None:
    signal.setitimer(signal.ITIMER_REAL, seconds + 1)
    _set(resource.RLIMIT_CPU, math.ceil(seconds) + 1)
    _set(resource.RLIMIT_FSIZE, 0)
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    if sys.platform == "linux":  # elsewhere the kernel refuses or ignores it
        _set(resource.RLIMIT_AS, memory)


def _set(limit: int, value: int) -> None:
    resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    main()

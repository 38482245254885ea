"""Lines of the log, in which nothing stands that anybody said.

Whatever other people's code puts into a message, and every exception's text, may quote a request: the
database's errors quote rows, Django's quote addresses with their queries. Of them only the fixed words
are written, and where an exception came from.
"""

import logging
import re
import sys
import threading
import traceback
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from leases.request_id import request_id

OURS = ("chat", "config", "documents", "leases")
PLAIN_SPOKEN = (*OURS, "uvicorn")  # whose messages quote nobody

NO_WORDS = "Something went wrong."

_PLACE = re.compile(r"%(?:\(\w+\))?[#0\- +]*[\d*]*(?:\.[\d*]+)?[a-zA-Z]")
_QUOTED = re.compile(r"[\"'`<({\[=\n].*", re.DOTALL)


class Failures(logging.Filter):
    """Exceptions only: an answer that says no has its line in config.requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        return bool(record.exc_info)


class JSON(JsonFormatter):
    """One object a line."""

    def __init__(self) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            timestamp="time",
        )

    def format(self, record: logging.LogRecord) -> str:
        return super().format(told(record, about_of(record)))


class Line(logging.Formatter):
    """One line for people, and the way of an exception below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        told_record = told(record, {})
        more = " ".join(f"{name}={value}" for name, value in about_of(record).items())
        told_record.msg = f"{told_record.msg} {more}".rstrip()
        return super().format(told_record)


def about_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a message is about: its `extra={"about": …}`, and the request it was written for."""
    about: dict[str, Any] = dict(getattr(record, "about", {})) if is_of(OURS, record.name) else {}
    if current := request_id():
        about["request_id"] = current
    return about


def told(record: logging.LogRecord, about: dict[str, Any]) -> logging.LogRecord:
    """The record with what may be told of it, and nothing else."""
    safe = logging.makeLogRecord(about)
    for name in ("name", "levelno", "levelname", "created", "msecs"):
        setattr(safe, name, getattr(record, name))
    safe.msg = record.getMessage() if is_of(PLAIN_SPOKEN, record.name) else fixed_words(record.msg)
    suspicious = record.name.startswith("django.security")  # its kind is the logger's name, its way Django's
    if record.exc_info and record.exc_info[1] is not None and not suspicious:
        safe.exc_text = explained(record.exc_info[1])
    return safe


def is_of(names: tuple[str, ...], logger: str) -> bool:
    return logger.partition(".")[0] in names


def fixed_words(message: object) -> str:
    """A template without what would be filled in, up to where something is quoted."""
    words = _QUOTED.sub("…", _PLACE.sub("…", str(message)))
    return words if any(letter.isalpha() for letter in words) else NO_WORDS


def explained(error: BaseException) -> str:
    """The kind of an exception and the way it took, and those that it came of. Not its text, unless its
    class says that this is for everybody."""
    parts: list[str] = []
    while True:
        kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        text = f": {error}" if getattr(error, "quotes_nobody", False) else ""
        way = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"{kind}{text}\n{way}".rstrip())
        of = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if of is None or len(parts) == 10:
            return "\nwhich came of ".join(parts)
        error = of


def log_the_uncaught() -> None:
    """What Python would print of exceptions in threads and destructors goes to the log, as all others do."""
    logger = logging.getLogger(__name__)

    def of_thread(uncaught: threading.ExceptHookArgs) -> None:
        if uncaught.exc_value is not None:
            logger.critical("A thread ended by an exception.", exc_info=uncaught.exc_value)

    def of_destructor(uncaught: "sys.UnraisableHookArgs") -> None:
        logger.error("An exception was ignored.", exc_info=uncaught.exc_value)

    threading.excepthook = of_thread
    sys.unraisablehook = of_destructor

"""The id of the request that the present code works for, from the page to the engine."""

import re
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import partial
from typing import ParamSpec, TypeVar
from uuid import uuid4

P = ParamSpec("P")
T = TypeVar("T")

HEADER = "X-Request-ID"

_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id", default="")


def begin_request(brought: str) -> str:
    """Work for a request from now on: under the id that it brought if that is sane, else under a new one."""
    current = brought if _SANE.fullmatch(brought) else uuid4().hex
    _current.set(current)
    return current


def request_id() -> str:
    """The present request's id; empty outside of requests."""
    return _current.get()


def headers() -> dict[str, str]:
    """What tells another server the id."""
    current = _current.get()
    return {HEADER: current} if current else {}


def carrying(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Callable[[], T]:
    """The call, for another thread, which then works for the same request."""
    return partial(copy_context().run, function, *args, **kwargs)

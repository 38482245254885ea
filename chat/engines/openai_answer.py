"""What an OpenAI-compatible server answers: how it is read, how much of it, and what its faults mean."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import aiohttp

from chat.engines.base import ContextOverflow, EngineError, EngineTimeout, Usage
from leases.outgoing import whole

READ_EVERY = 0.02
"""Seconds, once an answer has begun: tokens that come faster than anyone sees them are read together."""
MAX_LINE = 1 << 20
MAX_STREAM = 1 << 25
"""Bytes of one line and of one whole answer, with the protocol's own words around each token."""
MAX_DATA_LINES = 1000
"""Lines that one event may span."""
MAX_DETAILS = 200
"""Characters quoted from the server."""
MAX_COUNT = 1 << 31
"""Of tokens: more than this is none."""

ABSENT = "The chat model cannot be reached. Check that it is running and that CHAT_BASE_URL is right."
NO_KEY = "CHAT_API_KEY is not a single line, so the chat model cannot be asked. Please check it."
CUT_OFF = "The chat model stopped in the middle of its answer. Please try again."
NONSENSE = (
    "The chat model sent an answer that cannot be read. "
    "Check that CHAT_BASE_URL names an OpenAI-compatible server."
)
FAILED = (
    "The chat model failed to answer. Please try again; if it fails again, look into the model server's log."
)
LATE = (
    "The chat model took too long to answer. Please try again with a shorter message, or raise CHAT_TIMEOUT."
)
ENDLESS = "The chat model would not stop writing, so it was stopped. Please try again."
TOO_LONG = (
    "The conversation is longer than the chat model can read. "
    "Please shorten the message or start a new conversation."
)
REFUSALS = {
    401: "The chat model refused the key. Check CHAT_API_KEY.",
    403: "The chat model refused the key. Check CHAT_API_KEY.",
    404: "The chat server does not know this address or model. Check CHAT_BASE_URL and CHAT_MODEL.",
    429: "The chat model has too much to do. Please try again in a minute or two.",
}
_OVERFLOW = re.compile(
    r"exceed_context_size|context_length_exceeded|maximum context length|available context size"
    r"|context window|prompt is too long|longer than the maximum model length",
    re.IGNORECASE,
)
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")
_DONE: dict[str, Any] = {}


class Answer:
    """What the events have told so far."""

    def __init__(self) -> None:
        self.finished = False
        self.lively = False
        """Whether the last event shows the model at work, be it on the prompt or on thoughts."""
        self.usage: Usage | None = None
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def begun(self) -> bool:
        return bool(self._pieces)

    def take(self, event: dict[str, Any]) -> list[str]:
        """The new pieces of text: one or none."""
        if event is _DONE:
            self.finished = True
            return []
        if event.get("error"):
            raise refusal(None, event)
        self.usage = _usage(event.get("usage")) or self.usage
        choices = as_list(event.get("choices"))
        choice = as_dict(choices[0]) if choices else {}
        self.finished = self.finished or choice.get("finish_reason") is not None
        delta = as_dict(choice.get("delta") or choice.get("message"))
        content = delta.get("content")
        pieces = [content] if isinstance(content, str) and content else []
        self._pieces += pieces
        thoughts = delta.get("reasoning_content") or delta.get("reasoning")
        self.lively = bool(pieces or thoughts or event.get("prompt_progress"))
        return pieces


async def events_of(response: aiohttp.ClientResponse, answer: Answer) -> AsyncGenerator[dict[str, Any], None]:
    """The server-sent events' JSON objects, `_DONE` last if the server says so. An object may span
    several `data:` lines and need not be followed by the blank line that the standard asks for. Once the
    `answer` has begun, what comes within READ_EVERY is read together, or sooner if the body ends."""
    pending: list[str] = []
    async with aclosing(_lines(response, answer)) as lines:
        async for line in lines:
            field, _, value = line.partition(":")
            if field == "error":
                yield {"error": value.strip()}
            if (not line and pending) or len(pending) > MAX_DATA_LINES:
                raise EngineError(NONSENSE)
            if field != "data":
                continue
            pending.append(value)
            data = "\n".join(pending)
            if data.strip() == "[DONE]":
                yield _DONE
                return
            with suppress(ValueError):
                event = loaded(data)
                pending.clear()
                yield as_dict(event)
    if pending:
        raise EngineError(CUT_OFF)


async def _lines(response: aiohttp.ClientResponse, answer: Answer) -> AsyncGenerator[str, None]:
    rest = b""
    total = 0
    try:
        async for chunk in response.content.iter_any():
            total += len(chunk)
            *lines, rest = _LINE_END.split(rest + chunk)
            if total > MAX_STREAM or len(rest) > MAX_LINE:
                raise EngineError(ENDLESS)
            for line in lines:
                yield line.decode(errors="replace")
            if answer.begun:
                with suppress(TimeoutError):
                    async with asyncio.timeout(READ_EVERY):
                        await response.content.wait_eof()
    except aiohttp.ClientError:
        # What came before the connection broke off is there, but no longer given out.
        *lines, _ = _LINE_END.split(rest + response.content._read_nowait(-1))
        for line in lines:
            yield line.decode(errors="replace")
        raise
    yield rest.decode(errors="replace").rstrip("\r")


async def read(response: aiohttp.ClientResponse) -> bytes:
    content = await whole(response, MAX_LINE)
    if content is None:
        raise EngineError(NONSENSE)
    return content


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """The faults of aiohttp as our own."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise EngineTimeout(ABSENT) from error
    except TimeoutError as error:
        raise EngineTimeout(LATE) from error
    except (aiohttp.ClientConnectorError, aiohttp.NonHttpUrlClientError, ValueError) as error:
        raise EngineError(ABSENT) from error  # ValueError: an address of which no request can be made
    except aiohttp.ClientError as error:
        raise EngineError(CUT_OFF) from error


def refusal(status: int | None, answer: dict[str, Any]) -> EngineError:
    error = answer.get("error") or answer
    fields = as_dict(error)
    words = error if isinstance(error, str) else fields.get("message") or fields.get("detail")
    details = whole_characters(" ".join(words.split())[:MAX_DETAILS]) if isinstance(words, str) else ""
    kinds = [kind for kind in (fields.get("type"), fields.get("code")) if isinstance(kind, str)]
    if _OVERFLOW.search(" ".join([*kinds, details])):
        return ContextOverflow(TOO_LONG, details)
    return EngineError(REFUSALS.get(status or 0, FAILED), details)


def refusal_words(content: bytes) -> dict[str, Any]:
    """The JSON object of a refusal, or nothing to quote."""
    try:
        return as_dict(loaded(content))
    except ValueError:
        return {}


def parse(content: bytes) -> dict[str, Any]:
    try:
        answer = loaded(content)
    except ValueError as error:
        raise EngineError(NONSENSE) from error
    if not isinstance(answer, dict):
        raise EngineError(NONSENSE)
    return answer


def loaded(content: str | bytes) -> Any:
    """What the JSON says. Raises ValueError, also for what is nested too deep to be read."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def whole_characters(text: str) -> str:
    """The text without halves of characters, which JSON can hold and nothing else can."""
    return text.encode(errors="replace").decode()


def _usage(value: object) -> Usage | None:
    counts = as_dict(value)
    read, written = _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens"))
    return None if read is None or written is None else Usage(read, written)


def positive(value: object) -> int | None:
    return _count(value) or None


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < MAX_COUNT else None


def as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []

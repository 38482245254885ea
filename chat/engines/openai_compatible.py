"""A chat model behind any server that speaks the OpenAI protocol: llama.cpp, vLLM, Ollama and others."""

import asyncio
import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp

from chat.engines.base import (
    DEFAULT_CONTEXT_WINDOW,
    ChatMessage,
    ContextOverflow,
    Engine,
    EngineError,
    Health,
    Usage,
    estimate_tokens,
)
from chat.engines.openai_answer import (
    CUT_OFF,
    NO_KEY,
    NONSENSE,
    REFUSALS,
    Answer,
    as_dict,
    as_list,
    events_of,
    parse,
    positive,
    read,
    refusal,
    refusal_words,
    translated,
    whole_characters,
)
from chat.engines.repetition import repeats
from leases.outgoing import asked, begun, cut, hang_up, session

CONNECT_TIMEOUT = 5.0
"""Seconds until an engine that does not even accept a connection counts as absent."""
SIDE_TIMEOUT = 2.0
"""Seconds for the small questions: name, window, token count, and the usage after the last token."""
ASK_AGAIN_AFTER = 60.0
"""Seconds without token counts from a server that failed to count."""
COUNTED_AT_ONCE = 20_000
"""Characters. The answer lists all tokens, so that a long text would make it huge."""
FRAME_TOKENS = 5
"""What a chat template adds to each message, for servers that report no usage."""

_CONTROL = re.compile(
    r"<(?=[|\uff5c])|<(?=/?(?:s|start_of_turn|end_of_turn)>)|\[(?=/?(?:INST|SYSTEM_PROMPT)\])"
)
_MISSING_ROUTE = {404, 405, 501}

T = TypeVar("T")


@dataclass(frozen=True)
class _Model:
    name: str
    context_window: int


class _NoRouteError(EngineError):
    """The server has no such route."""


class _Patience:
    """The wait for one token, over however many reads it takes."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        self._deadline = asyncio.get_running_loop().time() + self._seconds

    async def wait(self, reading: Awaitable[T]) -> T:
        async with asyncio.timeout_at(self._deadline):
            return await reading


class OpenAICompatibleEngine(Engine):
    """Streams from `{base_url}/chat/completions`.

    `timeout` is the longest wait in seconds for the first and for each next token. `extra` is added to
    the body of each chat request, for what one kind of server understands. `stop_loops` ends an answer
    that says the same over and over, for models of which nobody wants that.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str = "",
        api_key: str = "",
        context_window: int | None = None,
        timeout: float = 60.0,
        extra: Mapping[str, Any] | None = None,
        stop_loops: bool = False,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._root = self._base_url.removesuffix("/v1")
        self._model = model
        self._api_key = api_key
        self._context_window = context_window
        self._timeout = timeout
        self._extra = dict(extra or {})
        self._stop_loops = stop_loops
        self._described: _Model | None = None
        self._no_tokenizer_until = -math.inf
        self._error: str | None = None
        self._answers: set[aiohttp.ClientResponse] = set()

    # -- what the engine is --------------------------------------------------------------------

    async def model_name(self) -> str:
        return self._model or (await self._describe()).name

    async def context_window(self) -> int:
        if self._context_window is not None:
            return self._context_window
        try:
            return (await self._describe()).context_window
        except EngineError:
            return DEFAULT_CONTEXT_WINDOW

    async def warm_up(self) -> None:
        if self._error is not None:  # whether it is back is what is asked
            self._described = None
        with suppress(EngineError):
            await self._describe()

    def health(self) -> Health:
        """The outcome of the last call. An engine that was never asked counts as ready."""
        name = self._model or (self._described.name if self._described else None)
        return Health(ready=self._error is None, model=name, error=self._error)

    async def _describe(self) -> _Model:
        if self._described is None:
            async with self._reporting(), self._client() as client:
                self._described = await self._ask_for_model(client)
        return self._described

    async def _ask_for_model(self, client: aiohttp.ClientSession) -> _Model:
        entries = as_list((await self._ask(client, "GET", f"{self._base_url}/models")).get("data"))
        models = [entry for entry in map(as_dict, entries) if isinstance(entry.get("id"), str)]
        chosen = next((entry for entry in models if entry["id"] == self._model), models[0] if models else {})
        name = self._model or whole_characters(chosen.get("id", ""))
        if not name:
            raise EngineError("The chat server names no model. Load one there, or set CHAT_MODEL.")
        window = _window(chosen) or await self._window_in_props(client)
        return _Model(name, window or DEFAULT_CONTEXT_WINDOW)

    async def _window_in_props(self, client: aiohttp.ClientSession) -> int | None:
        try:
            props = await self._ask(client, "GET", f"{self._root}/props")
        except EngineError:
            return None
        return positive(as_dict(props.get("default_generation_settings")).get("n_ctx"))

    # -- counting ------------------------------------------------------------------------------

    async def count_tokens(self, text: str) -> int:
        """Exact where the server has a tokenizer to ask (llama.cpp, vLLM), else `estimate_tokens`."""
        text = inert(text)
        slices = range(0, len(text), COUNTED_AT_ONCE)
        return sum([await self._count(text[start : start + COUNTED_AT_ONCE]) for start in slices])

    async def _count(self, text: str) -> int:
        if time.monotonic() < self._no_tokenizer_until:
            return estimate_tokens(text)
        # The one reads `content`, the other `prompt`; both ignore the rest.
        body = {"content": text, "prompt": text, "model": self._model, "add_special_tokens": False}
        try:
            async with self._client() as client:
                answer = await self._ask(client, "POST", f"{self._root}/tokenize", body)
        except EngineError as error:
            missing = isinstance(error, _NoRouteError)
            self._no_tokenizer_until = math.inf if missing else time.monotonic() + ASK_AGAIN_AFTER
            return estimate_tokens(text)
        tokens = answer.get("tokens")
        if not isinstance(tokens, list):
            self._no_tokenizer_until = math.inf
            return estimate_tokens(text)
        return len(tokens)

    # -- answering -----------------------------------------------------------------------------

    async def generate(
        self, messages: Sequence[ChatMessage], *, max_tokens: int, temperature: float
    ) -> AsyncGenerator[str | Usage, None]:
        plain = [ChatMessage(role=message["role"], content=inert(message["content"])) for message in messages]
        body: dict[str, Any] = {
            "messages": plain,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._extra,
        }
        answer = Answer()
        async with self._reporting(plain):
            body["model"] = await self.model_name()
            async with aclosing(self._stream(body, answer)) as pieces:
                async for piece in pieces:
                    yield piece
                    if self._stop_loops and repeats(answer.text):
                        break
        yield answer.usage or await self._count_usage(plain, answer.text)

    async def _stream(self, body: dict[str, Any], answer: Answer) -> AsyncGenerator[str, None]:
        patience = _Patience(self._timeout)
        async with self._client() as client, self._connected(client, body, patience) as response:
            kind = response.headers.get("content-type", "")
            if "json" in kind:
                for piece in answer.take(parse(await patience.wait(read(response)))):
                    yield piece
                return
            async with aclosing(events_of(response, answer)) as events:
                while (event := await _next(events, answer, patience)) is not None:
                    for piece in answer.take(event):
                        yield piece
                    if answer.lively:
                        patience.renew()
            if not answer.finished:
                raise EngineError(CUT_OFF if "event-stream" in kind else NONSENSE)

    @asynccontextmanager
    async def _connected(
        self, client: aiohttp.ClientSession, body: dict[str, Any], patience: _Patience
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = f"{self._base_url}/chat/completions"
        response = await patience.wait(begun(client, "POST", url, body))
        self._answers.add(response)
        try:
            if response.status != HTTPStatus.OK:
                raise refusal(response.status, refusal_words(await patience.wait(read(response))))
            yield response
        finally:
            self._answers.discard(response)
            hang_up(response)

    async def _count_usage(self, messages: Sequence[ChatMessage], answer: str) -> Usage:
        contents = "\n".join(message["content"] for message in messages)
        frames = FRAME_TOKENS * len(messages)
        return Usage(await self.count_tokens(contents) + frames, await self.count_tokens(answer))

    # -- connections ---------------------------------------------------------------------------

    def close(self) -> None:
        """Cuts every answer in progress, from whatever thread or event loop it is read."""
        for response in list(self._answers):
            cut(response)

    @property
    def answering(self) -> bool:
        """Whether an answer is being read right now."""
        return bool(self._answers)

    def _client(self) -> aiohttp.ClientSession:
        headers = {"Accept-Encoding": "identity"}
        if not self._api_key.isprintable():
            raise EngineError(NO_KEY)
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        return session(headers, connect=min(self._timeout, CONNECT_TIMEOUT))

    async def _ask(
        self, client: aiohttp.ClientSession, method: str, url: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """A small question and its JSON answer."""
        async with (
            translated(),
            asyncio.timeout(SIDE_TIMEOUT),
            asked(client, method, url, body) as response,
        ):
            content = await read(response)
            if response.status in _MISSING_ROUTE:
                raise _NoRouteError(REFUSALS[404])
            if response.status != HTTPStatus.OK:
                raise refusal(response.status, refusal_words(content))
            return parse(content)

    @asynccontextmanager
    async def _reporting(self, messages: Sequence[ChatMessage] = ()) -> AsyncIterator[None]:
        """Remembers the outcome for health() and makes every failure an EngineError without secrets."""
        try:
            async with translated():
                yield
        except EngineError as error:
            error.details = self._without_secrets(error.details, messages)
            if not isinstance(error, ContextOverflow):
                self._error = str(error)
            raise
        self._error = None

    def _without_secrets(self, details: str, messages: Sequence[ChatMessage]) -> str:
        quotes_us = any(message["content"].strip()[:20] in details for message in messages)
        has_key = bool(self._api_key) and self._api_key[-4:] in details
        return "" if quotes_us or has_key else details


async def _next(
    events: AsyncGenerator[dict[str, Any], None], answer: Answer, patience: _Patience
) -> dict[str, Any] | None:
    """The next event; None at the end. Once the answer is whole, a late or lost end is an end."""
    if not answer.finished:
        return await patience.wait(anext(events, None))
    try:
        async with asyncio.timeout(SIDE_TIMEOUT):
            return await anext(events, None)
    except (TimeoutError, aiohttp.ClientError, EngineError):
        return None


def inert(text: str) -> str:
    """The text with the control words of chat templates broken up by a space, so that nobody can end
    their own turn and speak as the system or the model: `<|im_end|>` becomes `< |im_end|>`."""
    return _CONTROL.sub(lambda match: match.group() + " ", whole_characters(text))


def _window(entry: dict[str, Any]) -> int | None:
    """The window that vLLM or llama.cpp states for a model; not more than the model was trained for."""
    meta = as_dict(entry.get("meta"))
    stated = positive(entry.get("max_model_len")) or positive(meta.get("n_ctx"))
    trained = positive(meta.get("n_ctx_train"))
    return min(stated, trained) if stated and trained else stated

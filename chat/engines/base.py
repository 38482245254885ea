"""What every chat engine can do, and how it may fail."""

import string
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

DEFAULT_CONTEXT_WINDOW = 4096
"""Tokens; taken where neither the settings nor the engine name a window."""

_WORDS = (string.ascii_letters + " ").encode()
_ASCII = bytes(range(128))


class EngineError(Exception):
    """The engine is absent, crashed, refused, stopped in mid-answer or sent nonsense.

    Its text is a sentence for people. `details` holds a few of the engine's own words, or nothing;
    neither holds the API key or anything of the conversation.
    """

    quotes_nobody = True  # so that logs may hold its text

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details


class EngineTimeout(EngineError):  # noqa: N818
    """The first or the next token did not come in time."""


class ContextOverflow(EngineError):  # noqa: N818
    """The engine says that the prompt does not fit its context window."""


Role = Literal["system", "user", "assistant"]


class ChatMessage(TypedDict):
    role: Role
    content: str


@dataclass(frozen=True)
class Usage:
    """Tokens read and written for one answer."""

    input_tokens: int
    output_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class Health:
    """Not ready and without an error means: not loaded yet, or loading."""

    ready: bool
    model: str | None
    error: str | None


class Engine(ABC):
    """One chat model. Safe to share between threads and event loops."""

    @abstractmethod
    def generate(
        self, messages: Sequence[ChatMessage], *, max_tokens: int, temperature: float
    ) -> AsyncGenerator[str | Usage, None]:
        """Yields pieces of the answer as the model makes them, then exactly one Usage, last.

        Closing the generator (or cancelling the task that awaits it) stops the model. Hold it in
        `contextlib.aclosing`, since Python closes an abandoned generator only at some later time.
        Raises EngineError and its kinds, also in mid-answer.
        """

    async def model_name(self) -> str:
        """Raises EngineError if the engine has to be asked and does not answer."""
        return type(self).__name__

    async def context_window(self) -> int:
        """Tokens that prompt and answer may have together."""
        return DEFAULT_CONTEXT_WINDOW

    async def count_tokens(self, text: str) -> int:
        """Tokens of `text` alone, without the frame that a chat template puts around a message."""
        return estimate_tokens(text)

    def health(self) -> Health:
        """What is known already. Never waits, never asks the engine."""
        return Health(ready=True, model=None, error=None)

    async def warm_up(self) -> None:  # noqa: B027
        """Makes the first answer as quick as the later ones. A failure shows in health(), not here."""

    def close(self) -> None:  # noqa: B027
        """Stops answers in progress and frees what the engine holds. May be called twice."""


def estimate_tokens(text: str) -> int:
    """A guess on the high side for any tokenizer: a third of the letters and spaces, every other ASCII
    character, two thirds of the bytes of all else.

    English prose has about a third fewer, Chinese at most as many. Only strings of random letters
    have more, up to twice as many.
    """
    data = text.encode(errors="replace")
    beyond_ascii = len(data.translate(None, _ASCII))
    marks = len(data.translate(None, _WORDS)) - beyond_ascii
    letters = len(data) - marks - beyond_ascii
    return -(-letters // 3) + marks + -(-beyond_ascii * 2 // 3)

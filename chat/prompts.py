"""What the model is given to read: the messages of one answer, cut to its context window by tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chat.engines.base import ChatMessage, Engine

SYSTEM = "You are a helpful AI assistant."
NO_PASSAGES_SYSTEM = "The chosen documents hold nothing about the question. Say so in one sentence."
PASSAGES_SYSTEM = (
    "You answer questions from the passages that you are given. If they do not hold the answer, you say so."
)
ELLIPSIS = "…"
"""Stands for the cut message of a user before an answer that is kept."""
NEWEST_MESSAGES = 100
"""Older messages are not even considered."""
FRAME_TOKENS = 8
"""Reserved for what a chat template puts around each message; ChatML takes 5 or 6, Llama 3 takes 5."""
TEMPLATE_TOKENS = 48
"""Reserved for what a template adds once: its start, the answer's opening, a date; and for ELLIPSIS."""
LONGEST_TOKEN = 12
"""Characters. Longer tokens are runs of blanks or dashes; prose has 4 to 5 characters to a token."""
LEAST_TOKENS = 16
"""Tokens below which the rest of a cut text is not worth keeping."""
TRIES = 8
"""Token counts to find the place of one cut."""


class MessageTooLong(Exception):  # noqa: N818
    """The new message alone does not fit the window."""

    def __init__(self, tokens: int, room: int) -> None:
        super().__init__(
            f"Your message is too long: it has {tokens} tokens and the chat model has room for {room}. "
            "Please shorten it, or ask for a shorter answer."
        )
        self.tokens = tokens
        self.room = room


@dataclass(frozen=True)
class Fitted:
    messages: list[ChatMessage]
    max_tokens: int
    dropped_history: int
    """Messages of the history that are not in `messages` at all."""
    context_cut: bool


@dataclass(frozen=True)
class Passage:
    """A piece of a document, with what tells a reader where it is from."""

    title: str
    text: str
    page: int | None = None
    heading: str = ""


async def fit(
    engine: Engine,
    *,
    message: str,
    context: str = "",
    history: Sequence[ChatMessage] = (),
    max_tokens: int,
    system: str = SYSTEM,
) -> Fitted:
    """The messages for an answer to `message` that leave `max_tokens` of the model's window free.

    An answer may take at most half of the window. `system` and `message` stay whole. Context and
    history share the rest, half each if both are long: the history keeps its newest messages, the
    oldest of them cut at its beginning; the context is cut at its end.
    Raises MessageTooLong, and EngineError if the engine has to be asked and fails.
    """
    window = await engine.context_window()
    max_tokens = max(1, min(max_tokens, window // 2))
    room = max(0, window - max_tokens - TEMPLATE_TOKENS - 2 * FRAME_TOKENS)
    head, kept = context, list(history[-NEWEST_MESSAGES:])
    if room < _most_tokens([system, context, message], kept):
        room = max(0, room - await engine.count_tokens(system))
        head, kept = await _within(engine, room, context, message, kept)
    question = ChatMessage(role="user", content=f"{head}\n\n{message}" if head else message)
    return Fitted(
        messages=_alternating([ChatMessage(role="system", content=system), *kept, question]),
        max_tokens=max_tokens,
        dropped_history=len(history) - len(kept),
        context_cut=len(head) < len(context),
    )


async def fit_passages(
    engine: Engine,
    *,
    message: str,
    passages: Sequence[Passage],
    history: Sequence[ChatMessage] = (),
    max_tokens: int,
) -> Fitted:
    """As `fit`, for a question about passages, the most relevant first: a window too small for all of
    them loses the last. The wording is the one with which a model of 135 million parameters answered
    most questions: sources on lines of their own, and the question tied to the passages above it."""
    if not passages:
        return await fit(
            engine, message=message, history=history, max_tokens=max_tokens, system=NO_PASSAGES_SYSTEM
        )
    return await fit(
        engine,
        message=f"According to the passages above: {message}",
        context="\n\n".join(_numbered(number, passage) for number, passage in enumerate(passages, 1)),
        history=history,
        max_tokens=max_tokens,
        system=PASSAGES_SYSTEM,
    )


def _numbered(number: int, passage: Passage) -> str:
    page = f", p. {passage.page}" if passage.page is not None else ""
    heading = f", {passage.heading}" if passage.heading else ""
    return f"[{number}] {passage.title}{page}{heading}:\n{passage.text}"


def _most_tokens(texts: Sequence[str], history: Sequence[ChatMessage]) -> int:
    """What these have at most, without asking the engine: a token stands for at least one byte, and an
    engine may put a space after every second one, to break up control words."""
    contents = [*texts, *(message["content"] for message in history)]
    written = sum(len(text.encode(errors="replace")) for text in contents)
    return written * 3 // 2 + FRAME_TOKENS * len(contents)


async def _within(
    engine: Engine, room: int, context: str, message: str, history: Sequence[ChatMessage]
) -> tuple[str, list[ChatMessage]]:
    """What is left of the context and of the history beside the message. Raises MessageTooLong."""
    length = await engine.count_tokens(message)
    if length > room:
        raise MessageTooLong(length, room)
    room -= length
    newest = _newest(history, room)
    wanted = await _count_messages(engine, newest)
    head = await _cut(engine, context, max(room // 2, room - wanted), _head)
    if head:
        room -= await engine.count_tokens(head)
    return head, await _newest_within(engine, newest, wanted, room)


def _newest(history: Sequence[ChatMessage], room: int) -> list[ChatMessage]:
    """The newest messages that could fit if their tokens were the longest there are."""
    characters = room * LONGEST_TOKEN
    newest: list[ChatMessage] = []
    for message in reversed(history):
        if characters <= 0:
            break
        newest.insert(0, {"role": message["role"], "content": message["content"][-characters:]})
        characters -= len(message["content"])
    return newest


async def _newest_within(
    engine: Engine, history: list[ChatMessage], tokens: int, room: int
) -> list[ChatMessage]:
    """As many of the newest messages as `room` tokens hold, the oldest of them cut if need be.
    `tokens` is the count of all."""
    if tokens <= room:
        return history
    whole, too_many, spent = 0, len(history), 0
    while too_many - whole > 1:
        middle = (whole + too_many) // 2
        tokens = await _count_messages(engine, history[-middle:])
        if tokens <= room:
            whole, spent = middle, tokens
        else:
            too_many = middle
    oldest = history[-whole - 1]
    tail = await _cut(engine, oldest["content"], room - spent - FRAME_TOKENS, _tail)
    kept = history[len(history) - whole :]
    return [{"role": oldest["role"], "content": tail}, *kept] if tail else kept


async def _count_messages(engine: Engine, messages: Sequence[ChatMessage]) -> int:
    if not messages:
        return 0
    contents = "\n".join(message["content"] for message in messages)
    return await engine.count_tokens(contents) + FRAME_TOKENS * len(messages)


async def _cut(engine: Engine, text: str, room: int, part: Callable[[str, int], str]) -> str:
    """The longest part of `text` found in a few tries that has at most `room` tokens."""
    if room <= 0:
        return ""
    fits, too_long = 0, min(len(text), room * LONGEST_TOKEN) + 1
    length = too_long - 1
    for _ in range(TRIES):
        tokens = await engine.count_tokens(part(text, length))
        if tokens > room:
            too_long = length
        else:
            fits = length
        if too_long - fits <= 1 or room * 0.95 < tokens <= room:
            break
        # Tokens are spread about evenly: aim at where the room should end.
        length = min(max(length * room // max(tokens, 1), fits + 1), too_long - 1)
    if fits < len(text) and room < LEAST_TOKENS:
        return ""
    return part(text, fits)


def _head(text: str, length: int) -> str:
    """The first `length` characters, ending with a whole word."""
    if length >= len(text):
        return text
    beginning = text[:length]
    return beginning.rsplit(None, 1)[0] if beginning.strip() else ""


def _tail(text: str, length: int) -> str:
    """The last `length` characters, beginning with a whole word."""
    if length >= len(text):
        return text
    end = text[len(text) - length :]
    return end.split(None, 1)[-1] if end.strip() else ""


def _alternating(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The same words with user and assistant in turns, the user first, as many templates demand."""
    turns: list[ChatMessage] = []
    for message in messages:
        before = turns[-1]["role"] if turns else None
        if message["role"] == before:
            turns[-1] = {"role": before, "content": f"{turns[-1]['content']}\n\n{message['content']}"}
            continue
        if message["role"] == "assistant" and before == "system":
            turns.append({"role": "user", "content": ELLIPSIS})
        turns.append(message)
    return turns

"""Message to answer, under the lease of the chat model."""

import asyncio
import codecs
import logging
import threading
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.http import Http404

from chat.engines import get_engine
from chat.engines.base import ChatMessage, Engine, EngineError, Usage
from chat.metrics import Meter, count_error
from chat.models import NOT_FOUND, Conversation, Message, Role
from chat.prompts import Fitted, Passage, fit, fit_passages
from documents.search import Found, Hit, find
from leases.database import in_database, returning
from leases.held import Held
from leases.holding import ahold
from leases.turn import AT_ONCE, Turn

logger = logging.getLogger(__name__)

SERVICE = "lightweight-llm"
REMEMBERED = 50  # messages of a saved conversation that are read back
FOUND = 4  # passages named as sources; the model reads the first CHAT_PASSAGES of them


@dataclass(frozen=True)
class Question:
    """What a caller asks; `history` None means: what the conversation remembers, up to the message that the
    exchange `replaces`, with all that was said after it, once there is an answer."""

    message: str
    context: str = ""
    history: Sequence[ChatMessage] | None = None
    max_tokens: int = 512
    temperature: float = 0.7
    conversation: Conversation | None = None
    document_ids: Sequence[str] = ()
    replaces: int | None = None  # a message of the conversation
    exchange_id: UUID | None = None  # by which the caller will know it again


@dataclass(frozen=True)
class Answer:
    """What the model made of it. `found` is None for a question about no documents, `conversation_id`
    for a bare exchange. `seconds` is what the model alone took."""

    text: str
    usage: Usage
    model: str
    context_window: int
    temperature: float
    seconds: float
    found: Found | None
    conversation_id: UUID | None


@dataclass
class Exchange:
    """What is asked, and what has been said so far."""

    question: Question
    conversation: Conversation | None
    hits: Sequence[Hit] = ()
    said: str = ""
    saving: threading.Lock = field(default_factory=threading.Lock)
    """Held while what was said is being saved. Once it is, nothing has been `said` that is not."""
    _halves: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-16-le")("replace")
    )

    def add(self, piece: str, *, last: bool = False) -> str:
        """Take a piece of the answer and return what can be shown of it: halves of a character that came
        in two tokens become one, and what no database takes goes."""
        whole = self._halves.decode(piece.encode("utf-16-le", "surrogatepass"), final=last)
        text = whole.replace("\x00", "")
        self.said += text
        return text


async def answer(question: Question, owner: str, turn: Turn = AT_ONCE) -> Answer:
    """Ask the model, about passages of the owner's documents if some are chosen.

    Tells each `token` as the model makes it. An exchange about documents, and one of a conversation, is
    saved; one about documents begins a conversation if it has none. Whatever ends the answer early, what
    was said until then is kept, marked as incomplete. Raises ServiceBusy, LeaseLost, MessageTooLong,
    EngineError, and Http404 for a document that is not the owner's.
    """
    conversation = question.conversation
    if conversation is None and question.document_ids:
        conversation = Conversation(owner=owner, title=_title(question.message))
    if conversation is not None:
        turn = replace(turn, about={"conversationId": str(conversation.pk)})
    exchange = Exchange(question, conversation)
    try:
        async with ahold(SERVICE, owner, turn) as held:
            return await _answer(exchange, held, owner, turn)
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, EngineError):
            count_error(SERVICE, error)
        if conversation is not None and exchange.said.strip():
            await _keep_incomplete(exchange)
        raise


async def _answer(exchange: Exchange, held: Held, owner: str, turn: Turn) -> Answer:
    question, conversation = exchange.question, exchange.conversation
    found = None
    if question.document_ids:
        found = await find(
            owner,
            question.message,
            document_ids=question.document_ids,
            limit=max(FOUND, settings.CHAT_PASSAGES),
        )
        exchange.hits = found.hits
        held.activity()
    engine = get_engine()
    history = question.history
    if history is None:
        history = await in_database(_remembered, conversation, question.replaces) if conversation else []
    if found:
        fitted = await fit_passages(
            engine,
            message=question.message,
            passages=[_passage(hit) for hit in found.hits[: settings.CHAT_PASSAGES]],
            history=history,
            max_tokens=question.max_tokens,
        )
    else:
        fitted = await fit(
            engine,
            message=question.message,
            context=question.context,
            history=history,
            max_tokens=question.max_tokens,
        )
    began = monotonic()
    usage = await _generate(engine, fitted, exchange, held, turn)
    seconds = monotonic() - began
    text = exchange.said.strip()
    if conversation is not None:
        await in_database(_save, held, exchange)
    return Answer(
        text=text,
        usage=usage,
        model=await engine.model_name(),
        context_window=await engine.context_window(),
        temperature=question.temperature,
        seconds=round(seconds, 3),
        found=found,
        conversation_id=conversation.pk if conversation else None,
    )


async def _generate(engine: Engine, fitted: Fitted, exchange: Exchange, held: Held, turn: Turn) -> Usage:
    """Let the model speak, every piece of it a sign of activity."""
    usage: Usage | None = None
    meter = Meter(SERVICE)
    generation = engine.generate(
        fitted.messages, max_tokens=fitted.max_tokens, temperature=exchange.question.temperature
    )
    try:
        async with aclosing(generation):
            async for piece in generation:
                held.activity()
                if isinstance(piece, Usage):
                    usage = piece
                    meter.usage(usage)
                    continue
                meter.piece()
                if text := exchange.add(piece):
                    turn.tell("token", {"text": text})
    finally:
        meter.time()
    if usage is None:
        raise EngineError("The model stopped in the middle of its answer. Please try again.")
    if text := exchange.add("", last=True):
        turn.tell("token", {"text": text})
    if not exchange.said.strip():
        raise EngineError("The model had nothing to say. Please try again, or put your message differently.")
    return usage


async def _keep_incomplete(exchange: Exchange) -> None:
    """Save what was said before the answer broke off; whoever is cancelled meanwhile, it is saved."""
    saving = asyncio.ensure_future(asyncio.to_thread(returning, _save_incomplete, exchange))
    try:
        await asyncio.shield(saving)
    except Exception:
        logger.exception("What was said of an answer that broke off could not be kept.")


def _remembered(conversation: Conversation, before: int | None) -> list[ChatMessage]:
    return [
        {"role": "user" if said.role == Role.USER else "assistant", "content": said.content}
        for said in conversation.newest(REMEMBERED, before=before)
    ]


def _save(held: Held, exchange: Exchange) -> None:
    """Add the exchange to its conversation, if the lease is still ours and the conversation still there."""
    with exchange.saving:
        with held.fenced():
            if not _append(exchange):
                raise Http404(NOT_FOUND)
        exchange.said = ""


def _save_incomplete(exchange: Exchange) -> None:
    """The same, not as what was made under the lease but as the record of what the person has seen."""
    with exchange.saving, transaction.atomic():
        if exchange.said.strip():  # whoever went away during the saving may have all of it saved
            _append(exchange, incomplete=True)


def _append(exchange: Exchange, *, incomplete: bool = False) -> bool:
    """Write the exchange; False if its conversation was deleted meanwhile."""
    conversation, message = exchange.conversation, exchange.question.message
    assert conversation is not None  # noqa: S101 - a bare exchange is not saved
    if conversation._state.adding:
        conversation.save(force_insert=True)
    elif not Conversation.objects.filter(pk=conversation.pk).update(updated_at=Now()):
        return False
    if exchange.question.replaces is not None:
        conversation.take_back(exchange.question.replaces)
    Conversation.objects.filter(pk=conversation.pk, title="").update(title=_title(message))
    Message.objects.bulk_create(
        [
            Message(
                conversation=conversation,
                exchange_id=exchange.question.exchange_id,
                role=Role.USER,
                content=message,
            ),
            Message(
                conversation=conversation,
                exchange_id=exchange.question.exchange_id,
                role=Role.ASSISTANT,
                content=exchange.said.strip(),
                sources=[source(hit) for hit in exchange.hits],
                incomplete=incomplete,
            ),
        ]
    )
    return True


def _passage(hit: Hit) -> Passage:
    text = hit.passage if settings.CHAT_NEIGHBOURS else hit.chunk.text
    return Passage(hit.chunk.title, text, page=hit.chunk.page, heading=hit.chunk.heading)


def source(hit: Hit) -> dict[str, Any]:
    """A passage as an answer's source."""
    return {
        "documentId": str(hit.chunk.document),
        "title": hit.chunk.title,
        "snippet": hit.snippet,
        "score": hit.score,
        "chunkIndex": hit.chunk.number,
        "isChunkResult": True,
        "page": hit.chunk.page,
        "heading": hit.chunk.heading,
        "start": hit.chunk.start,
        "end": hit.chunk.end,
    }


def _title(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= 80 else line[:80].rsplit(" ", 1)[0] + " …"

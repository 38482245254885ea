"""Message to answer, under the lease of the chat model."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Now
from django.http import Http404

from chat.engines import get_engine
from chat.engines.base import ChatMessage, Engine, EngineError, Usage
from chat.models import NOT_FOUND, Conversation, Message, Role
from chat.prompts import Fitted, Passage, fit, fit_passages
from documents.search import Found, Hit, find
from leases.database import in_database
from leases.holding import Held, ahold

SERVICE = "lightweight-llm"
REMEMBERED = 50  # messages of a saved conversation that are read back
FOUND = 4  # passages named as sources; the model reads the first CHAT_PASSAGES of them


@dataclass(frozen=True)
class Question:
    """What a caller asks; `history` None means: what the conversation remembers."""

    message: str
    context: str = ""
    history: Sequence[ChatMessage] | None = None
    max_tokens: int = 512
    temperature: float = 0.7
    conversation: Conversation | None = None
    document_ids: Sequence[str] = ()


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


async def answer(question: Question, owner: str) -> Answer:
    """Ask the model, about passages of the owner's documents if some are chosen.

    An exchange about documents, and one of a conversation, is saved; one about documents begins a
    conversation if it has none. Raises ServiceBusy, LeaseLost, MessageTooLong, EngineError, and
    Http404 for a document that is not the owner's.
    """
    async with ahold(SERVICE, owner) as held:
        if not question.document_ids:
            return await _answer(question, held, question.conversation, None)
        found = await find(
            owner,
            question.message,
            document_ids=question.document_ids,
            limit=max(FOUND, settings.CHAT_PASSAGES),
        )
        held.activity()
        conversation = question.conversation or Conversation(owner=owner, title=_title(question.message))
        return await _answer(question, held, conversation, found)


async def _answer(
    question: Question, held: Held, conversation: Conversation | None, found: Found | None
) -> Answer:
    engine = get_engine()
    history = question.history
    if history is None:
        history = await in_database(_remembered, conversation) if conversation else []
    hits = found.hits if found else []
    if found:
        fitted = await fit_passages(
            engine,
            message=question.message,
            passages=[_passage(hit) for hit in hits[: settings.CHAT_PASSAGES]],
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
    text, usage = await _generate(engine, fitted, question.temperature, held)
    seconds = monotonic() - began
    if conversation is not None:
        await in_database(_save, held, conversation, question.message, text, hits)
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


async def _generate(engine: Engine, fitted: Fitted, temperature: float, held: Held) -> tuple[str, Usage]:
    """The whole answer, every piece of it a sign of activity."""
    pieces: list[str] = []
    usage: Usage | None = None
    generation = engine.generate(fitted.messages, max_tokens=fitted.max_tokens, temperature=temperature)
    async with aclosing(generation):
        async for piece in generation:
            held.activity()
            if isinstance(piece, Usage):
                usage = piece
            else:
                pieces.append(piece)
    if usage is None:
        raise EngineError("The model stopped in the middle of its answer. Please try again.")
    text = _storable("".join(pieces)).strip()
    if not text:
        raise EngineError("The model had nothing to say. Please try again, or put your message differently.")
    return text, usage


def _storable(text: str) -> str:
    """Halves of a character that came in two tokens become one, and what no database takes goes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "")


def _remembered(conversation: Conversation) -> list[ChatMessage]:
    newest = conversation.messages.order_by("-id")[:REMEMBERED]
    return [
        {"role": "user" if said.role == Role.USER else "assistant", "content": said.content}
        for said in reversed(newest)
    ]


def _save(held: Held, conversation: Conversation, message: str, text: str, hits: Sequence[Hit]) -> None:
    """Add the exchange to its conversation, if the lease is still ours and the conversation still there."""
    with held.fenced():
        if conversation._state.adding:
            conversation.save(force_insert=True)
        elif not Conversation.objects.filter(pk=conversation.pk).update(updated_at=Now()):
            raise Http404(NOT_FOUND)
        Conversation.objects.filter(pk=conversation.pk, title="").update(title=_title(message))
        Message.objects.bulk_create(
            [
                Message(conversation=conversation, role=Role.USER, content=message),
                Message(
                    conversation=conversation,
                    role=Role.ASSISTANT,
                    content=text,
                    sources=[source(hit) for hit in hits],
                ),
            ]
        )


def _passage(hit: Hit) -> Passage:
    return Passage(hit.document.title, hit.chunk.text, page=hit.chunk.page, heading=hit.chunk.heading)


def source(hit: Hit) -> dict[str, Any]:
    """A passage as an answer's source."""
    return {
        "documentId": str(hit.document.pk),
        "title": hit.document.title,
        "snippet": hit.snippet,
        "score": hit.score,
        "chunkIndex": hit.chunk.index,
        "isChunkResult": True,
        "page": hit.chunk.page,
        "heading": hit.chunk.heading,
        "start": hit.chunk.start,
        "end": hit.chunk.end,
    }


def _title(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= 80 else line[:80].rsplit(" ", 1)[0] + " …"

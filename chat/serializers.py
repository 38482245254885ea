"""What the chat routes accept and answer."""

from typing import Any

from rest_framework import serializers

from chat.answering import Answer, source
from chat.models import Conversation, Message, Role
from chat.prompts import NEWEST_MESSAGES
from documents.search import Found
from leases.fields import BoundedList, RequestSerializer, Text, milliseconds, sentences

FREE, FACTUAL = (
    0.7,
    0.1,
)  # temperatures: of a chat, and of answers from documents, which should invent nothing
MESSAGE_MAX = 100_000  # characters; the model's window is narrower still, and says so in tokens
WITHOUT_VECTORS = (
    "{count} of the chosen documents {are} not converted yet and could be searched by keywords only. "
    "Convert {them} for better answers."
)
WITHOUT_EMBEDDER = (
    "The documents could be searched by keywords only, because the embedding engine does not answer. "
    "Please ask again later for better answers."
)


class HistoryMessage(RequestSerializer):
    """One thing that was said before."""

    role = serializers.ChoiceField(
        Role.choices,
        help_text="Who said it.",
        error_messages=sentences(
            "Each history entry needs a role: user or assistant.",
            invalid_choice="The role of a history entry must be user or assistant.",
        ),
    )
    content = Text(
        allow_blank=True,
        trim_whitespace=False,
        help_text="What was said.",
        error_messages=sentences("Each history entry needs its content as text."),
    )


class HistoryField(serializers.ListField):
    """What was said before, of which only the newest messages are looked at: a conversation may grow."""

    child = HistoryMessage()

    def __init__(self) -> None:
        super().__init__(
            default=None,
            help_text="What was said before, the oldest first; a conversation remembers by itself.",
            error_messages=sentences("The history must be a list of messages."),
        )

    def to_internal_value(self, data: Any) -> list[Any]:
        return super().to_internal_value(data[-NEWEST_MESSAGES:] if isinstance(data, list) else data)


class SamplingField(serializers.FloatField):
    def __init__(self, default: float) -> None:
        sentence = "Temperature must be a number from 0 to 2."
        super().__init__(
            default=default,
            min_value=0,
            max_value=2,
            help_text="How freely the model chooses its words: 0 always the likeliest, 2 anything.",
            error_messages=sentences(sentence),
        )


class LengthField(serializers.IntegerField):
    def __init__(self) -> None:
        sentence = "The maximum length must be a whole number of tokens from 1 to 100000."
        super().__init__(
            default=512,
            min_value=1,
            max_value=100_000,
            help_text="Tokens that the answer may have at most.",
            error_messages=sentences(sentence),
        )


class ReplacedField(serializers.IntegerField):
    def __init__(self) -> None:
        super().__init__(
            default=None,
            allow_null=True,
            min_value=1,
            max_value=2**63 - 1,
            help_text="A message of the conversation, by its id: the new exchange takes its place, and that "
            "of all that was said after it, once there is an answer.",
            error_messages=sentences("The message to replace must be named by its id, a whole number."),
        )


class ExchangeField(serializers.UUIDField):
    def __init__(self) -> None:
        super().__init__(
            default=None,
            allow_null=True,
            help_text="A new UUID that both saved messages keep, so that a caller who did not hear the end "
            "can tell which are its own.",
            error_messages=sentences("The exchange must be named by a UUID."),
        )


class MessageField(Text):
    def __init__(self, required: str) -> None:
        too_long = (
            f"The message is longer than {MESSAGE_MAX:,} characters. "
            "Please shorten it, or upload it as a document."
        )
        super().__init__(
            max_length=MESSAGE_MAX,
            help_text="What to say to the model; not blank.",
            error_messages=sentences(required, max_length=too_long),
        )


class ChatRequest(RequestSerializer):
    """The body of POST /api/lightweight-llm/chat."""

    message = MessageField("Message is required")
    context = Text(  # type: ignore[assignment]
        default="",
        allow_blank=True,
        trim_whitespace=False,
        help_text="What the model should know besides; cut where it does not fit.",
        error_messages=sentences("The context must be text."),
    )
    conversation_history = HistoryField()
    max_length = LengthField()
    temperature = SamplingField(FREE)
    sessionId = serializers.CharField(  # noqa: N815 - the contract's name
        default=None,
        allow_null=True,
        max_length=100,
        help_text="The conversation to go on with, by its id.",
        error_messages=sentences("The session id must be text."),
    )
    replaces = ReplacedField()
    exchangeId = ExchangeField()  # noqa: N815 - the contract's name


class DocumentChatRequest(RequestSerializer):
    """The body of POST /api/RAG/chat."""

    message = MessageField("Message and document IDs are required")
    documentIds = BoundedList(  # noqa: N815 - the contract's name
        child=serializers.CharField(
            max_length=100, error_messages=sentences("Each document id must be text.")
        ),
        allow_empty=False,
        help_text="The documents to answer from, by their ids.",
        max_length=50,
        error_messages=sentences(
            "Message and document IDs are required", max_length="Please choose at most 50 documents."
        ),
    )
    conversationHistory = HistoryField()  # noqa: N815 - the contract's name
    sessionId = serializers.CharField(  # noqa: N815 - the contract's name
        default=None,
        allow_null=True,
        max_length=100,
        help_text="The conversation to go on with, by its id.",
        error_messages=sentences("The session id must be text."),
    )
    replaces = ReplacedField()
    exchangeId = ExchangeField()  # noqa: N815 - the contract's name
    max_length = LengthField()
    temperature = SamplingField(FACTUAL)


class ConversationQuery(RequestSerializer):
    """The query of GET /api/conversations."""

    search = Text(
        default="",
        allow_blank=True,
        max_length=200,
        help_text="Words that stand in the title or in a message.",
        error_messages=sentences("The search must be text."),
    )


class MessagePageRequest(RequestSerializer):
    """Which messages of a conversation: the newest, or those before the `cursor`."""

    cursor = serializers.IntegerField(
        default=None,
        allow_null=True,
        min_value=1,
        max_value=2**63 - 1,
        help_text="The `nextCursor` of the page before.",
        error_messages=sentences("That cursor is not one of ours. Please start from the newest messages."),
    )


class ConversationChange(RequestSerializer):
    """The body of PATCH /api/conversations/{id}; what is left out stays."""

    title = Text(
        required=False,
        max_length=100,
        help_text="The new title.",
        error_messages=sentences(
            "The title must be text.", max_length="Please choose a title of at most 100 characters."
        ),
    )
    documentIds = BoundedList(  # noqa: N815 - the contract's name
        child=serializers.UUIDField(error_messages=sentences("Each document id must be an id of ours.")),
        required=False,
        max_length=10,
        help_text="The documents that are ticked for it from now on.",
        error_messages=sentences(
            "The documents must be a list of ids.", max_length="Please choose at most 10 documents."
        ),
    )


class NewConversation(RequestSerializer):
    """The body of POST /api/conversations."""

    title = Text(
        default="",
        allow_blank=True,
        max_length=100,
        help_text="Its title; without one, the first message will give it one.",
        error_messages=sentences(
            "The title must be text.", max_length="Please choose a title of at most 100 characters."
        ),
    )


def model_info(answer: Answer) -> dict[str, Any]:
    return {
        "model_name": answer.model,
        "context_window": answer.context_window,
        "temperature": answer.temperature,
        "generation_time_s": answer.seconds,
    }


def usage(answer: Answer) -> dict[str, int]:
    return {
        "input_tokens": answer.usage.input_tokens,
        "output_tokens": answer.usage.output_tokens,
        "total_tokens": answer.usage.total_tokens,
    }


def chat_fields(answer: Answer) -> dict[str, Any]:
    """The answer of POST /api/lightweight-llm/chat."""
    body = {
        "success": True,
        "response": answer.text,
        "model_info": model_info(answer),
        "usage": usage(answer),
    }
    if answer.conversation_id is not None:
        body["sessionId"] = str(answer.conversation_id)
    return body


def document_chat_fields(answer: Answer, milliseconds: int) -> dict[str, Any]:
    """The answer of POST /api/RAG/chat."""
    return {
        "success": True,
        "response": answer.text,
        "sessionId": str(answer.conversation_id),
        "sources": [source(hit) for hit in answer.found.hits] if answer.found else [],
        "usage": usage(answer),
        "processingTimeMs": milliseconds,
        "model": model_info(answer),
        "notice": notice(answer.found) if answer.found else None,
    }


def notice(found: Found) -> str | None:
    """What a reader should know of how the passages were found; None if by meaning and by keywords."""
    if found.unconverted:
        one = found.unconverted == 1
        are, them = ("is", "it") if one else ("are", "them")
        return WITHOUT_VECTORS.format(count=found.unconverted, are=are, them=them)
    return None if found.by_meaning else WITHOUT_EMBEDDER


def conversation_fields(conversation: Conversation) -> dict[str, Any]:
    return {
        "sessionId": str(conversation.pk),
        "title": conversation.title,
        "documentIds": conversation.document_ids,
        "createdAt": milliseconds(conversation.created_at),
        "updatedAt": milliseconds(conversation.updated_at),
    }


def message_fields(message: Message) -> dict[str, Any]:
    return {
        "id": message.pk,
        "role": message.role,
        "content": message.content,
        "sources": message.sources,
        "incomplete": message.incomplete,
        "exchangeId": message.exchange_id and str(message.exchange_id),
        "createdAt": milliseconds(message.created_at),
    }

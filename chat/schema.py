"""How the chat routes and the conversations are described."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers

from chat import serializers as shapes
from chat.models import NO_MESSAGE, NOT_FOUND, Role
from leases.schema import (
    GUARDED,
    Events,
    Queued,
    Shape,
    Started,
    StreamError,
    Success,
    Token,
    answer,
    asked,
    guarded,
    not_found,
    stream_of,
)


class ModelInfo(Shape):
    """Which model answered, and how."""

    model_name = serializers.CharField(help_text="The model's name.")
    context_window = serializers.IntegerField(help_text="Tokens of prompt and answer together.")
    temperature = serializers.FloatField(help_text="How freely it chose its words, 0 to 2.")
    generation_time_s = serializers.FloatField(help_text="Seconds that the model alone took.")


class Usage(Shape):
    """Tokens, as the model counts them."""

    input_tokens = serializers.IntegerField(help_text="Tokens of the prompt.")
    output_tokens = serializers.IntegerField(help_text="Tokens of the answer.")
    total_tokens = serializers.IntegerField(help_text="Both together.")


class ChatAnswer(Success):
    """What the model answered."""

    response = serializers.CharField(help_text="The answer.")
    model_info = ModelInfo(help_text="Which model answered, and how.")
    usage = Usage(help_text="Tokens, as the model counts them.")
    sessionId = serializers.UUIDField(  # noqa: N815 - the contract's name
        required=False, help_text="The conversation in which the exchange was saved, if it was."
    )


class Source(Shape):
    """A passage that an answer was drawn from."""

    documentId = serializers.UUIDField(help_text="The document of the passage.")  # noqa: N815
    title = serializers.CharField(help_text="The document's title.")
    snippet = serializers.CharField(help_text="The passage's words on one line, cut where it is long.")
    score = serializers.FloatField(help_text="How well it fits the message, 0 to 1.")
    chunkIndex = serializers.IntegerField(help_text="Which chunk of the document, from 0.")  # noqa: N815
    isChunkResult = serializers.BooleanField(  # noqa: N815 - the contract's name
        help_text="Always true: sources are passages, not whole documents."
    )
    page = serializers.IntegerField(
        allow_null=True, help_text="The page on which it begins, from 1; null where there are no pages."
    )
    heading = serializers.CharField(allow_blank=True, help_text="The heading above it; may be empty.")
    start = serializers.IntegerField(help_text="Where it begins in the document's text, in characters.")
    end = serializers.IntegerField(help_text="Where it ends there.")


class DocumentChatAnswer(Success):
    """What the model answered from passages of the chosen documents."""

    response = serializers.CharField(help_text="The answer.")
    sessionId = serializers.UUIDField(  # noqa: N815 - the contract's name
        help_text="The conversation in which the exchange was saved."
    )
    sources = Source(many=True, help_text="The passages found for the message, the best first.")
    usage = Usage(help_text="Tokens, as the model counts them.")
    processingTimeMs = serializers.IntegerField(  # noqa: N815 - the contract's name
        help_text="Milliseconds from the request to the answer, waiting included."
    )
    model = ModelInfo(help_text="Which model answered, and how.")
    notice = serializers.CharField(
        allow_null=True,
        help_text="What a reader should know of how the passages were found, null if all was well.",
    )


class ChatEvents(Events):
    """An answer as it is made."""

    kinds = {"queued": Queued, "started": Started, "token": Token, "done": ChatAnswer, "error": StreamError}


class DocumentChatEvents(Events):
    """An answer about documents as it is made."""

    kinds = ChatEvents.kinds | {"done": DocumentChatAnswer}


class ConversationFields(Shape):
    """A conversation without what was said in it."""

    sessionId = serializers.UUIDField(help_text="The conversation's id.")  # noqa: N815
    title = serializers.CharField(
        allow_blank=True, help_text="Its title: the first message's beginning unless it was given one."
    )
    documentIds = serializers.ListField(  # noqa: N815 - the contract's name
        child=serializers.CharField(), help_text="The documents that are ticked for it."
    )
    createdAt = serializers.IntegerField(  # noqa: N815 - the contract's name
        help_text="When it was begun, in milliseconds since 1970."
    )
    updatedAt = serializers.IntegerField(  # noqa: N815 - the contract's name
        help_text="When something was last said, in milliseconds since 1970."
    )


class Conversation(Success, ConversationFields):
    """One conversation."""


class Conversations(Success):
    """The caller's conversations."""

    conversations = ConversationFields(many=True, help_text="The newest 100, the latest first.")
    total = serializers.IntegerField(help_text="How many there are in all.")


class Message(Shape):
    """One thing said."""

    id = serializers.IntegerField(help_text="The message's number.")
    role = serializers.ChoiceField(Role.choices, help_text="Who said it.")
    content = serializers.CharField(allow_blank=True, help_text="What was said.")
    sources = Source(many=True, help_text="The passages that an answer was drawn from; empty for a person's.")
    incomplete = serializers.BooleanField(
        help_text="True for an answer that broke off: stopped, failed, or its session ended."
    )
    exchangeId = serializers.UUIDField(  # noqa: N815 - as the contract has its names
        allow_null=True, help_text="What the request called the exchange, if it did."
    )
    createdAt = serializers.IntegerField(  # noqa: N815 - the contract's name
        help_text="When it was said, in milliseconds since 1970."
    )


class ConversationWithMessages(Conversation):
    """A conversation and its newest messages."""

    messages = Message(
        many=True,
        help_text="The newest 100, or those before the cursor, in the order in which they were said.",
    )
    nextCursor = serializers.CharField(  # noqa: N815 - as documents have it
        allow_null=True, help_text="The `cursor` of what was said before these, null where they begin."
    )


class ConversationDeleted(Success):
    """A conversation is gone."""

    sessionId = serializers.CharField(help_text="The id that was asked for.")  # noqa: N815
    message = serializers.CharField(help_text="A sentence that says so.")


class MessagesDeleted(Success):
    """Messages are gone."""

    sessionId = serializers.CharField(help_text="The conversation's id.")  # noqa: N815
    deleted = serializers.IntegerField(help_text="How many messages were taken back.")


class ChatModelStatus(Success):
    """How the chat model is."""

    status = serializers.ChoiceField(
        ["ready", "loading", "error"], help_text="Whether it can answer, is being loaded, or failed."
    )
    ready = serializers.BooleanField(help_text="Whether it can answer.")
    model = serializers.CharField(allow_null=True, help_text="Its name, null while it is not known.")
    error = serializers.CharField(allow_null=True, help_text="Why it cannot answer, else null.")


DOCUMENT_ID = "6b0a1e91-e3e0-48c3-bc25-4260ae6e6611"
CONVERSATION_ID = "444081b9-bb63-49a8-bb03-5959f1356973"
INFO = {
    "model_name": "SmolLM2-135M-Instruct.Q4_1",
    "context_window": 4096,
    "temperature": 0.0,
    "generation_time_s": 1.183,
}
ANSWERED = {
    "success": True,
    "response": "The capital of France is Paris.",
    "model_info": INFO,
    "usage": {"input_tokens": 28, "output_tokens": 8, "total_tokens": 36},
}
SOURCE = {
    "documentId": DOCUMENT_ID,
    "title": "handbook",
    "snippet": "# Staff handbook ## Leave Every employee of Brightwater Mills gets 31 days of paid leave.",
    "score": 0.4113,
    "chunkIndex": 0,
    "isChunkResult": True,
    "page": None,
    "heading": "Staff handbook",
    "start": 0,
    "end": 194,
}
ANSWERED_FROM_DOCUMENTS = {
    "success": True,
    "response": "Every employee gets 31 days of paid leave in a year.",
    "sessionId": CONVERSATION_ID,
    "sources": [SOURCE],
    "usage": {"input_tokens": 116, "output_tokens": 12, "total_tokens": 128},
    "processingTimeMs": 1439,
    "model": INFO,
    "notice": None,
}
CONVERSATION = {
    "sessionId": CONVERSATION_ID,
    "title": "How many days of leave does an employee get?",
    "documentIds": [DOCUMENT_ID],
    "createdAt": 1795372771233,
    "updatedAt": 1795372771233,
}
QUEUED = {"position": 2, "estimatedWaitSeconds": 5, "yours": False}
STARTED = {"sessionId": "1f175e3f36acef43696c4cc2b70122ba", "queuedMs": 6219}

SESSION_ID = OpenApiParameter(
    "session_id",
    str,
    OpenApiParameter.PATH,
    description="The conversation's id, as the list of conversations gives it.",
    examples=[OpenApiExample("conversation", value=CONVERSATION_ID)],
)
MESSAGE_ID = OpenApiParameter(
    "message_id",
    OpenApiTypes.INT64,
    OpenApiParameter.PATH,
    description="The message's number, as the conversation gives it.",
    pattern=None,
    examples=[OpenApiExample("message", value=7)],
)


chat = extend_schema(
    operation_id="chat",
    tags=["chat"],
    summary="Say something to the chat model",
    description="One message to the model, and its answer, as one body or as a stream. With the "
    "`sessionId` of a "
    "conversation it remembers what was said there and saves the exchange; without, nothing is kept.",
    parameters=GUARDED,
    request=asked(
        shapes.ChatRequest,
        short={"message": "What is the capital of France?", "max_length": 40, "temperature": 0},
        with_history={
            "message": "And of Italy?",
            "conversation_history": [
                {"role": "user", "content": "What is the capital of France?"},
                {"role": "assistant", "content": "The capital of France is Paris."},
            ],
        },
        in_a_conversation={"message": "My cat is called Zebulon.", "sessionId": CONVERSATION_ID},
    ),
    responses=guarded(
        answer(ChatAnswer, "What the model answered.", answer=ANSWERED),
        ChatEvents,
        stream_of(
            ("queued", QUEUED),
            ("started", STARTED),
            ("token", {"text": "The capital of France"}),
            ("token", {"text": " is Paris."}),
            ("done", ANSWERED),
        ),
        service="lightweight-llm",
        called="chat",
    )
    | {404: not_found(NOT_FOUND)},
)

document_chat = extend_schema(
    operation_id="document_chat",
    tags=["chat"],
    summary="Ask about documents",
    description="One message about chosen documents, answered from the passages of them that fit it "
    "best. The "
    "exchange is saved: in the conversation of `sessionId`, or in a new one.",
    parameters=GUARDED,
    request=asked(
        shapes.DocumentChatRequest,
        question={
            "message": "How many days of leave does an employee get?",
            "documentIds": [DOCUMENT_ID],
            "temperature": 0,
        },
        in_a_conversation={
            "message": "And bicycles?",
            "documentIds": [DOCUMENT_ID],
            "sessionId": CONVERSATION_ID,
        },
    ),
    responses=guarded(
        answer(DocumentChatAnswer, "What the model answered, and from what.", answer=ANSWERED_FROM_DOCUMENTS),
        DocumentChatEvents,
        stream_of(
            ("queued", QUEUED),
            ("started", STARTED | {"conversationId": CONVERSATION_ID}),
            ("token", {"text": "Every employee gets"}),
            ("token", {"text": " 31 days of paid leave in a year."}),
            ("done", ANSWERED_FROM_DOCUMENTS),
        ),
        service="lightweight-llm",
        called="chat",
    )
    | {
        404: not_found(
            "There is no such document among yours. The list of your documents shows those that exist."
        )
    },
)

document_chat_alias = extend_schema(
    operation_id="document_chat_alias",
    summary="Ask about documents, by its other name",
    description="The same as `POST /api/RAG/chat`.",
)

list_conversations = extend_schema(
    operation_id="list_conversations",
    tags=["conversations"],
    summary="The caller's conversations",
    description="The newest 100, or those of them in whose title or messages the words of `search` stand.",
    parameters=[shapes.ConversationQuery],
    responses={
        200: answer(
            Conversations,
            "The caller's conversations, the latest first.",
            one={"success": True, "conversations": [CONVERSATION], "total": 1},
        )
    },
)

create_conversation = extend_schema(
    operation_id="create_conversation",
    tags=["conversations"],
    summary="Begin a conversation",
    description="An empty conversation of the caller; say its `sessionId` with a chat request to go on "
    "with it. A "
    "caller without cookie or token gets a session cookie, to which it belongs.",
    request=asked(shapes.NewConversation, untitled={}, titled={"title": "Cats"}),
    responses={
        201: answer(
            Conversation,
            "The new conversation.",
            titled={"success": True, **CONVERSATION, "title": "Cats", "documentIds": []},
        )
    },
)

get_conversation = extend_schema(
    operation_id="get_conversation",
    tags=["conversations"],
    summary="One conversation",
    description="A conversation of the caller with its newest 100 messages; `cursor` leads to earlier ones.",
    parameters=[SESSION_ID, shapes.MessagePageRequest],
    responses={
        200: answer(
            ConversationWithMessages,
            "The conversation.",
            exchange={
                "success": True,
                **CONVERSATION,
                "messages": [
                    {
                        "id": 1,
                        "role": "user",
                        "content": "How many days of leave does an employee get?",
                        "sources": [],
                        "incomplete": False,
                        "exchangeId": None,
                        "createdAt": 1795372771234,
                    },
                    {
                        "id": 2,
                        "role": "assistant",
                        "content": "Every employee gets 31 days of paid leave in a year.",
                        "sources": [SOURCE],
                        "incomplete": False,
                        "exchangeId": None,
                        "createdAt": 1795372771234,
                    },
                ],
                "nextCursor": None,
            },
        ),
        404: not_found(NOT_FOUND),
    },
)

change_conversation = extend_schema(
    operation_id="change_conversation",
    tags=["conversations"],
    summary="Change a conversation's title or documents",
    description="What is left out stays as it is.",
    parameters=[SESSION_ID],
    request=asked(
        shapes.ConversationChange, title={"title": "Leave"}, documents={"documentIds": [DOCUMENT_ID]}
    ),
    responses={
        200: answer(
            Conversation, "The conversation as it is now.", changed={"success": True, **CONVERSATION}
        ),
        404: not_found(NOT_FOUND),
    },
)

delete_conversation = extend_schema(
    operation_id="delete_conversation",
    tags=["conversations"],
    summary="Delete a conversation",
    description="It and all that was said in it.",
    parameters=[SESSION_ID],
    responses={
        200: answer(
            ConversationDeleted,
            "It is gone.",
            deleted={
                "success": True,
                "sessionId": CONVERSATION_ID,
                "message": "The conversation is deleted.",
            },
        ),
        404: not_found(NOT_FOUND),
    },
)

delete_messages = extend_schema(
    operation_id="delete_messages",
    tags=["conversations"],
    summary="Take a message back",
    description="A message and all that was said after it, so that it can be put differently. "
    "One that is gone takes nothing with it.",
    parameters=[SESSION_ID, MESSAGE_ID],
    responses={
        200: answer(
            MessagesDeleted,
            "They are gone.",
            exchange={"success": True, "sessionId": CONVERSATION_ID, "deleted": 2},
        ),
        404: not_found(NO_MESSAGE),
    },
)

chat_status = extend_schema(
    operation_id="chat_status",
    tags=["chat"],
    summary="How the chat model is",
    description="Whether this server process can reach or has loaded the chat model.",
    responses={
        200: answer(
            ChatModelStatus,
            "How the chat model is.",
            ready={
                "success": True,
                "status": "ready",
                "ready": True,
                "model": "SmolLM2-135M-Instruct.Q4_1",
                "error": None,
            },
            loading={"success": True, "status": "loading", "ready": False, "model": None, "error": None},
        )
    },
)

"""The chat routes of the contract, and the conversations that they save."""

from time import monotonic
from typing import Any

from django.http import Http404, HttpResponseBase
from rest_framework import status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from chat import schema
from chat import serializers as shapes
from chat.answering import Question, answer
from chat.engines import get_engine
from chat.models import NO_MESSAGE, Conversation, ConversationQuerySet
from leases.database import delete_whole, in_database
from leases.fields import valid, valid_now
from leases.guarded_view import GuardedView
from leases.owned_view import OwnedView
from leases.owners import passing_owner, settle_owner
from leases.turn import Turn

LISTED = 100  # conversations, and messages of one, that an answer holds


class ConversationView(OwnedView):
    """A view of the caller's own conversations, and of nobody else's."""

    @property
    def conversations(self) -> ConversationQuerySet:
        return Conversation.objects.for_owner(self.owner)

    async def continued(self, session_id: str | None) -> Conversation | None:
        """The conversation that a request continues, None for none. Raises Http404."""
        return await in_database(self.conversations.pick_one, session_id) if session_id else None

    async def replaced(self, conversation: Conversation | None, message_id: int | None) -> int | None:
        """The message whose place the new exchange takes, None for none. Raises Http404."""
        if message_id is None:
            return None
        if conversation is not None:
            there = conversation.messages.filter(pk=message_id)
            if await in_database(there.exists):
                return message_id
        raise Http404(NO_MESSAGE)


class Chat(ConversationView, GuardedView):
    """POST: one message to the chat model. Without `sessionId` nothing is kept."""

    @schema.chat
    async def post(self, request: Request) -> HttpResponseBase:
        asked = await valid(shapes.ChatRequest, request)
        conversation = await self.continued(asked["sessionId"])
        question = Question(
            message=asked["message"],
            context=asked["context"],
            history=asked["conversation_history"] or None,
            max_tokens=asked["max_length"],
            temperature=asked["temperature"],
            conversation=conversation,
            replaces=await self.replaced(conversation, asked["replaces"]),
            exchange_id=asked["exchangeId"],
        )

        async def work(turn: Turn) -> dict[str, Any]:
            return shapes.chat_fields(await answer(question, self.owner or passing_owner(), turn))

        return await self.answer(work)


class DocumentChat(ConversationView, GuardedView):
    """POST: one message about chosen documents, answered from their passages and saved."""

    @schema.document_chat
    async def post(self, request: Request) -> HttpResponseBase:
        began = monotonic()
        asked = await valid(shapes.DocumentChatRequest, request)
        conversation = await self.continued(asked["sessionId"])
        question = Question(
            message=asked["message"],
            history=asked["conversationHistory"] or None,
            max_tokens=asked["max_length"],
            temperature=asked["temperature"],
            conversation=conversation,
            replaces=await self.replaced(conversation, asked["replaces"]),
            exchange_id=asked["exchangeId"],
            document_ids=asked["documentIds"],
        )

        async def work(turn: Turn) -> dict[str, Any]:
            made = await answer(question, self.owner or passing_owner(), turn)
            return shapes.document_chat_fields(made, round((monotonic() - began) * 1000))

        return await self.answer(work)


class DocumentChatAlias(DocumentChat):
    """POST: the same by the contract's other name."""

    @schema.document_chat_alias
    @schema.document_chat
    async def post(self, request: Request) -> HttpResponseBase:
        return await super().post(request)


class ConversationList(ConversationView):
    """GET: the caller's newest conversations, those in which the words of `search` stand. POST: begin one."""

    @schema.list_conversations
    def get(self, request: Request) -> Response:
        words = valid_now(shapes.ConversationQuery, request.query_params)["search"]
        conversations = self.conversations.matching(words) if words else self.conversations
        return Response(
            {
                "success": True,
                "conversations": [shapes.conversation_fields(row) for row in conversations[:LISTED]],
                "total": conversations.count(),
            }
        )

    @schema.create_conversation
    def post(self, request: Request) -> Response:
        asked = valid_now(shapes.NewConversation, request.data)
        conversation = Conversation.objects.create(owner=settle_owner(request), title=asked["title"])
        return Response(
            {"success": True, **shapes.conversation_fields(conversation)}, status=status.HTTP_201_CREATED
        )


class ConversationDetail(ConversationView):
    """GET: a conversation and its messages in their order, the newest page first. PATCH: its title or its
    documents. DELETE: it and all of them."""

    @schema.get_conversation
    def get(self, request: Request, session_id: str) -> Response:
        before = valid_now(shapes.MessagePageRequest, request.query_params)["cursor"]
        conversation = self.conversations.pick_one(session_id)
        messages, first = conversation.page(LISTED, before)
        return Response(
            {
                "success": True,
                **shapes.conversation_fields(conversation),
                "messages": [shapes.message_fields(message) for message in messages],
                "nextCursor": None if first is None else str(first),
            }
        )

    @schema.change_conversation
    def patch(self, request: Request, session_id: str) -> Response:
        conversation = self.conversations.pick_one(session_id)
        asked = valid_now(shapes.ConversationChange, request.data)
        changes: dict[str, Any] = {}
        if "title" in asked:
            changes["title"] = asked["title"]
        if "documentIds" in asked:
            changes["document_ids"] = [str(pk) for pk in asked["documentIds"]]
        if changes:  # each field on its own: another tab may be changing the other
            self.conversations.filter(pk=conversation.pk).update(**changes)
            conversation.refresh_from_db()
        return Response({"success": True, **shapes.conversation_fields(conversation)})

    @schema.delete_conversation
    def delete(self, request: Request, session_id: str) -> Response:
        conversation = self.conversations.pick_one(session_id)
        delete_whole(self.conversations.filter(pk=conversation.pk))
        return Response({"success": True, "sessionId": session_id, "message": "The conversation is deleted."})


class MessageDetail(ConversationView):
    """DELETE: a message and all that was said after it, so that it can be put differently."""

    @schema.delete_messages
    def delete(self, request: Request, session_id: str, message_id: int) -> Response:
        conversation = self.conversations.pick_one(session_id)
        count = conversation.take_back(message_id)
        if not count:
            raise Http404(NO_MESSAGE)
        return Response({"success": True, "sessionId": session_id, "deleted": count})


class EngineStatus(APIView):
    """GET: the health of the chat model. Public."""

    permission_classes = [AllowAny]

    @schema.chat_status
    def get(self, request: Request) -> Response:
        health = get_engine().health()
        state = "ready" if health.ready else "error" if health.error else "loading"
        return Response(
            {
                "success": True,
                "status": state,
                "ready": health.ready,
                "model": health.model,
                "error": health.error,
            },
            headers={"Cache-Control": "no-store"},
        )

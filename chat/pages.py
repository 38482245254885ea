"""The pages of the chat. With scripts they use the API as everybody does; without, they answer forms."""

import json
from typing import Any
from unicodedata import normalize
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.text import slugify
from django.views import View

from chat import serializers as shapes
from chat.answering import Question, answer
from chat.engines.base import EngineError
from chat.models import Conversation, Role
from chat.prompts import MessageTooLong
from leases.database import in_database
from leases.exceptions import LeaseError
from leases.owners import owner_of, settle_owner
from leases.turn import Turn

LISTED = 100  # conversations beside the thread, and messages in it
WAIT_SECONDS = 60.0  # of a browser without scripts, which shows nothing meanwhile
TOLD = (LeaseError, EngineError, MessageTooLong)  # whose texts are sentences for people


class ChatPage(View):
    """GET: a conversation, or an empty one. POST: ask, in a browser without scripts."""

    async def get(self, request: HttpRequest, session_id: str | None = None) -> HttpResponse:
        return await in_database(_page, request, session_id)

    async def post(self, request: HttpRequest, session_id: str | None = None) -> HttpResponse:
        message = _text(request.POST.get("message", "")).strip()[: shapes.MESSAGE_MAX]
        if not message:
            return await in_database(_page, request, session_id)
        conversation = await in_database(_conversation_for, request, session_id)
        about: list[str] = conversation.document_ids
        question = Question(
            message=message,
            conversation=conversation,
            document_ids=about,
            temperature=shapes.FACTUAL if about else shapes.FREE,
        )
        try:
            await answer(question, conversation.owner, Turn(wait=WAIT_SECONDS))
        except (*TOLD, Http404) as error:  # a document that is gone
            messages.error(request, str(error))
            return await in_database(_page, request, str(conversation.pk), draft=message)
        return redirect("conversation-page", session_id=conversation.pk)


class Export(View):
    """GET: a conversation as a file, `kind` md or json."""

    def get(self, request: HttpRequest, session_id: str, kind: str) -> HttpResponseBase:
        conversation = _pick(request, session_id)
        if kind == "md":
            text, content_type = _markdown(conversation), "text/markdown"
        elif kind == "json":
            said = [shapes.message_fields(message) for message in conversation.messages.all()]
            body = {**shapes.conversation_fields(conversation), "messages": said}
            text, content_type = json.dumps(body, ensure_ascii=False, indent=2), "application/json"
        else:
            raise Http404
        name = slugify(conversation.title)[:60] or "conversation"
        disposition = f'attachment; filename="{name}.{kind}"'
        return HttpResponse(
            text,
            content_type=f"{content_type}; charset=utf-8",
            headers={"Content-Disposition": disposition},
        )


def _text(sent: str) -> str:
    """As the API reads it, without what no database keeps."""
    return normalize("NFC", sent).replace("\0", "")


def _pick(request: HttpRequest, session_id: Any) -> Conversation:
    return Conversation.objects.for_owner(owner_of(request)).pick_one(str(session_id))


def _conversation_for(request: HttpRequest, session_id: str | None) -> Conversation:
    if session_id is not None:
        return _pick(request, session_id)
    linked = _uuid(request.GET.get("document", ""))
    about = [str(linked)] if linked else []
    return Conversation.objects.create(owner=settle_owner(request), document_ids=about)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _page(request: HttpRequest, session_id: Any = None, *, draft: str = "") -> HttpResponse:
    conversations = Conversation.objects.for_owner(owner_of(request))
    current = conversations.pick_one(str(session_id)) if session_id else None
    words = _text(request.GET.get("search", "")).strip()[:200]
    before = request.GET.get("before", "")
    said, first = current.page(LISTED, int(before) if _is_id(before) else None) if current else ([], None)
    context = {
        "current": current,
        "said": said,
        "earlier": first,
        "conversations": (conversations.matching(words) if words else conversations.listed())[:LISTED],
        "search": words,
        "draft": draft,
        "state": {
            "conversation": str(current.pk) if current else None,
            "documents": current.document_ids if current else [],
        },
    }
    return render(request, "chat/chat.html", context)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


def _markdown(conversation: Conversation) -> str:
    parts = [f"# {conversation.title or 'Conversation'}"]
    for message in conversation.messages.all():
        who = "You" if message.role == Role.USER else "Assistant"
        parts.append(f"## {who}\n\n{message.content}")
        if message.incomplete:
            parts.append("_This answer is incomplete._")
        parts += [
            f"{number}. {source['title']}"
            + (f", page {source['page']}" if source.get("page") else "")
            + f": {source['snippet']}"
            for number, source in enumerate(message.sources, 1)
        ]
    return "\n\n".join(parts) + "\n"

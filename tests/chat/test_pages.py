"""The chat page as it is without scripts, and what the page's scripts ask of the API."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape
from pytest_django import Settings
from rest_framework.test import APIClient

from chat.models import Conversation, Message, Role
from leases import mutex
from tests.server import free_port

pytestmark = pytest.mark.usefixtures("leases")

LLM = "lightweight-llm"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture
def visitor(client: Client) -> Client:
    return client


def begin(client: Any, title: str = "") -> Conversation:
    answer = client.post("/api/conversations", json.dumps({"title": title}), content_type="application/json")
    return Conversation.objects.get(pk=answer.json()["sessionId"])


def say(conversation: Conversation, *texts: str) -> list[Message]:
    roles = [Role.USER, Role.ASSISTANT]
    return [
        Message.objects.create(conversation=conversation, role=roles[n % 2], content=text)
        for n, text in enumerate(texts)
    ]


def patch(client: Any, conversation: Conversation, **body: Any) -> Any:
    return client.patch(
        f"/api/conversations/{conversation.pk}", json.dumps(body), content_type="application/json"
    )


class TestPage:
    def test_an_empty_page_greets_and_gives_nobody_a_session(self, visitor: Client) -> None:
        page = visitor.get("/")
        assert page.status_code == 200
        assert "What would you like to know?" in page.content.decode()
        assert "sessionid" not in visitor.cookies
        policy = page["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy

    def test_without_scripts_a_question_is_answered_and_kept(self, visitor: Client) -> None:
        answered = visitor.post("/", {"message": "What is the capital of France?"}, follow=True)
        assert answered.status_code == 200
        (conversation,) = Conversation.objects.all()
        assert answered.request["PATH_INFO"] == f"/c/{conversation.pk}/"
        question, answer = conversation.messages.all()
        assert (question.content, answer.role) == ("What is the capital of France?", Role.ASSISTANT)
        assert escape(answer.content) in answered.content.decode()

    def test_what_goes_wrong_is_said_and_the_draft_is_there_again(
        self, visitor: Client, settings: Settings
    ) -> None:
        settings.CHAT_BASE_URL, settings.CHAT_MODEL = f"http://127.0.0.1:{free_port()}/v1", "absent"
        page = visitor.post("/", {"message": "Is anybody there?"}).content.decode()
        assert "Is anybody there?</textarea>" in page
        assert 'class="notice error"' in page

    def test_without_scripts_a_linked_document_is_asked(self, visitor: Client) -> None:
        text = {"title": "Tea", "content": "Oolong tea is steeped at 88 degrees.", "contentType": "text"}
        made = visitor.post("/api/RAG/upload", json.dumps(text), content_type="application/json").json()
        path = f"/?document={made['documentId']}"
        page = visitor.post(path, {"message": "At how many degrees is oolong steeped?"}, follow=True)
        (conversation,) = Conversation.objects.all()
        assert conversation.document_ids == [made["documentId"]]
        _, answer = conversation.messages.all()
        assert answer.sources[0]["documentId"] == made["documentId"]
        assert page.request["PATH_INFO"] == f"/c/{conversation.pk}/"
        assert f'action="/c/{conversation.pk}/"' in page.content.decode()
        visitor.delete(f"/api/RAG/documents/{made['documentId']}")
        refused = visitor.post(f"/c/{conversation.pk}/", {"message": "And black tea?"})
        assert "no such document" in refused.content.decode()
        assert "And black tea?</textarea>" in refused.content.decode()

    def test_everything_that_was_said_is_escaped(self, visitor: Client) -> None:
        conversation = begin(visitor, title=HOSTILE)
        say(conversation, HOSTILE, HOSTILE)
        page = visitor.get(f"/c/{conversation.pk}/").content.decode()
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;alert(1)" in page

    def test_somebody_elses_conversation_is_not_there(self, visitor: Client) -> None:
        conversation = begin(Client())
        for path in ("", "export.md", "export.json"):
            assert visitor.get(f"/c/{conversation.pk}/{path}").status_code == 404
        assert visitor.post(f"/c/{conversation.pk}/", {"message": "hello"}).status_code == 404
        assert not conversation.messages.exists()

    def test_conversations_are_searched_by_title_and_by_what_was_said(self, visitor: Client) -> None:
        tea, rain = begin(visitor, "Tea"), begin(visitor, "Weather")
        say(rain, "Will it rain?", "Bring an umbrella.")
        for words, found, missed in (("tea", tea, rain), ("umbrella", rain, tea)):
            page = visitor.get("/", {"search": words}).content.decode()
            assert str(found.pk) in page
            assert str(missed.pk) not in page

    def test_a_conversation_in_which_nothing_was_said_is_listed_for_a_day(self, visitor: Client) -> None:
        for age, seen in ((timedelta(hours=23), True), (timedelta(hours=25), False)):
            for title in ("", "Tea"):
                conversation = begin(visitor, title)
                Conversation.objects.filter(pk=conversation.pk).update(created_at=Now() - age)
                page = visitor.get("/").content.decode()
                assert (f'data-id="{conversation.pk}"' in page) is (seen or bool(title))

    def test_a_conversation_is_exported(self, visitor: Client) -> None:
        conversation = begin(visitor, "Tea & <cake>")
        question, answer = say(conversation, "How hot?", "75 degrees.")
        Message.objects.filter(pk=answer.pk).update(
            incomplete=True, sources=[{"title": "Tea", "page": 3, "snippet": "Green tea is steeped"}]
        )
        markdown = visitor.get(f"/c/{conversation.pk}/export.md")
        assert markdown["Content-Disposition"] == 'attachment; filename="tea-cake.md"'
        text = markdown.content.decode()
        assert "How hot?" in text
        assert "_This answer is incomplete._" in text
        assert "1. Tea, page 3: Green tea is steeped" in text
        body = json.loads(visitor.get(f"/c/{conversation.pk}/export.json").content)
        assert [message["content"] for message in body["messages"]] == [question.content, answer.content]
        assert visitor.get(f"/c/{conversation.pk}/export.exe").status_code == 404


class TestConversations:
    def test_a_conversation_is_renamed_and_given_its_documents(self, api: APIClient) -> None:
        conversation = begin(api)
        ids = ["11111111-1111-4111-8111-111111111111"]
        body = patch(api, conversation, title="Tea", documentIds=ids).json()
        assert (body["title"], body["documentIds"]) == ("Tea", ids)
        assert patch(api, conversation, title="Coffee").json()["documentIds"] == ids
        assert patch(api, conversation, title=" ").status_code == 400
        assert patch(api, conversation, documentIds=["x"]).status_code == 400
        assert patch(api, conversation, documentIds=ids * 11).status_code == 400
        conversation.refresh_from_db()
        assert conversation.title == "Coffee"

    def test_a_change_of_the_title_writes_nothing_else(self, api: APIClient) -> None:
        """Another tab may be ticking documents at the same moment."""
        conversation = begin(api)
        with CaptureQueriesContext(connection) as queries:
            patch(api, conversation, title="Tea")
        (update,) = [query["sql"] for query in queries if query["sql"].startswith("UPDATE")]
        assert "document_ids" not in update.split("WHERE")[0]

    def test_the_list_is_searched(self, api: APIClient) -> None:
        begin(api, "Tea")
        begin(api, "Weather")
        (found,) = api.get("/api/conversations?search=tea").json()["conversations"]
        assert found["title"] == "Tea"

    def test_messages_come_in_pages_the_newest_first(self, api: APIClient) -> None:
        conversation = begin(api)
        texts = [f"message {number}" for number in range(230)]
        say(conversation, *texts)
        path, cursor = f"/api/conversations/{conversation.pk}", ""
        read: list[str] = []
        while cursor is not None:
            page = api.get(f"{path}?cursor={cursor}" if cursor else path).json()
            read = [message["content"] for message in page["messages"]] + read
            cursor = page["nextCursor"]
        assert read == texts
        assert len(page["messages"]) == 30
        for wrong in ("0", "x", "-1", str(2**63)):
            assert api.get(f"{path}?cursor={wrong}").status_code == 400

    def test_the_page_leads_to_what_was_said_earlier(self, api: APIClient, visitor: Client) -> None:
        conversation = begin(visitor)
        first, second, *_ = say(conversation, *(f"message {number}." for number in range(101)))
        path = f"/c/{conversation.pk}/"
        page = visitor.get(path).content.decode()
        assert first.content not in page
        assert f'href="?before={second.pk}"' in page
        earlier = visitor.get(path, {"before": second.pk}).content.decode()
        assert first.content in earlier
        assert second.content not in earlier
        assert "Show earlier messages" not in earlier
        for strange in ("x", "9" * 30, "\u0663", ""):
            assert visitor.get(path, {"before": strange}).content.decode().count("<article") == 101

    def test_a_message_is_taken_back_with_what_followed(self, api: APIClient) -> None:
        conversation = begin(api)
        first, _, third, _ = say(conversation, "one", "two", "three", "four")
        path = f"/api/conversations/{conversation.pk}/messages"
        assert api.delete(f"{path}/{third.pk}").json()["deleted"] == 2
        assert list(conversation.messages.values_list("content", flat=True)) == ["one", "two"]
        assert api.delete(f"{path}/{first.pk}").json()["deleted"] == 2

    def test_a_message_that_is_gone_takes_nothing_newer_with_it(self, api: APIClient) -> None:
        conversation = begin(api)
        (gone,) = say(conversation, "one")
        gone_id = gone.pk
        gone.delete()
        say(conversation, "two")
        answer = api.delete(f"/api/conversations/{conversation.pk}/messages/{gone_id}")
        assert answer.status_code == 404
        assert "not in the conversation any more" in answer.json()["error"]
        assert conversation.messages.count() == 1

    def test_only_a_message_of_the_conversation_is_replaced(self, api: APIClient) -> None:
        conversation, other = begin(api), begin(api)
        (elsewhere,) = say(other, "one")
        (here,) = say(conversation, "one")
        for message, session in ((elsewhere.pk, str(conversation.pk)), (here.pk, None), (here.pk + 9, None)):
            body = {"message": "two", "sessionId": session, "replaces": message}
            refused = api.post("/api/lightweight-llm/chat", body, format="json")
            assert refused.status_code == 404
            assert "not in the conversation any more" in refused.json()["error"]
        for wrong in (0, "x", 2**63):
            body = {"message": "two", "sessionId": str(conversation.pk), "replaces": wrong}
            assert api.post("/api/lightweight-llm/chat", body, format="json").status_code == 400
        assert Message.objects.count() == 2

    def test_both_messages_keep_what_their_caller_called_the_exchange(self, api: APIClient) -> None:
        conversation, exchange = begin(api), str(uuid4())
        body = {"message": "hello", "sessionId": str(conversation.pk), "max_length": 20}
        for named in ({"exchangeId": exchange}, {}):
            assert api.post("/api/lightweight-llm/chat", body | named, format="json").status_code == 200
        kept = api.get(f"/api/conversations/{conversation.pk}").json()["messages"]
        assert [message["exchangeId"] for message in kept] == [exchange, exchange, None, None]
        page = api.get(f"/c/{conversation.pk}/").content.decode()
        assert page.count(f'data-exchange="{exchange}"') == page.count("data-exchange") == 2
        body |= {"documentIds": ["x"], "exchangeId": "mine"}
        for route in ("lightweight-llm", "RAG"):
            refused = api.post(f"/api/{route}/chat", body, format="json")
            assert refused.status_code == 400
            assert refused.json()["error"] == "The exchange must be named by a UUID."

    def test_nobody_else_changes_it(self, api: APIClient, other: APIClient) -> None:
        conversation = begin(api, "Tea")
        (message,) = say(conversation, "one")
        begin(other)
        assert patch(other, conversation, title="Mine").status_code == 404
        path = f"/api/conversations/{conversation.pk}/messages/{message.pk}"
        assert other.delete(path).status_code == 404
        assert Message.objects.filter(pk=message.pk).exists()
        # and the messages of another conversation are no business of one's own
        own = begin(other)
        say(own, "two")
        assert other.delete(f"/api/conversations/{own.pk}/messages/{message.pk}").status_code == 404
        assert own.messages.exists()
        assert Message.objects.filter(pk=message.pk).exists()


def test_the_status_page_tells_the_services_without_scripts(visitor: Client) -> None:
    grant = mutex.acquire(LLM, "user:7")
    page = visitor.get("/status/").content.decode()
    assert "Chat Service" in page
    assert 'data-service="lightweight-llm" data-state="busy"' in page
    assert 'data-service="vector-convert" data-state="free"' in page
    assert grant.session_id not in page
    assert "user:7" not in page

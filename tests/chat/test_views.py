"""The chat routes, with the real model for the main way and a scripted server for its faults."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from knox.models import get_token_model
from pytest_django import Settings
from rest_framework.test import APIClient

from chat.models import Conversation, Message
from documents.models import Document
from leases import mutex
from leases.models import Hold, Lease, Service
from tests.server import free_port

pytestmark = pytest.mark.usefixtures("leases")

LLM = "lightweight-llm"
POLICY = """# Staff handbook

## Leave

Every employee of Brightwater Mills gets 31 days of paid leave in a year.

## Bicycles

The company pays for the repair of bicycles that are used for the way to work.
"""


def chat(client: APIClient, **body: Any) -> Any:
    return client.post(
        "/api/lightweight-llm/chat", {"max_length": 24, "temperature": 0} | body, format="json"
    )


def document_chat(client: APIClient, path: str = "/api/RAG/chat", **body: Any) -> Any:
    return client.post(path, {"max_length": 40, "temperature": 0} | body, format="json")


def upload(client: APIClient, content: str = POLICY, convert: bool = True) -> str:
    body = {"title": "Handbook", "content": content, "contentType": "markdown"}
    document_id: str = client.post("/api/RAG/upload", body, format="json").json()["documentId"]
    if convert:
        done = client.post(
            "/api/vector-convert-llm/process-document", {"document_id": document_id}, format="json"
        )
        assert done.status_code == 200
    return document_id


class TestChat:
    def test_a_real_model_answers_and_nothing_is_left_behind(self, api: APIClient) -> None:
        response = chat(api, message="What is the capital of France?")
        assert response.status_code == 200, response.content
        body = response.json()
        assert "Paris" in body["response"]
        assert body["success"] is True
        info, usage = body["model_info"], body["usage"]
        assert isinstance(info["model_name"], str)
        assert info["context_window"] >= 2048
        assert info["temperature"] == 0
        assert info["generation_time_s"] > 0
        assert usage["input_tokens"] > 5
        assert 0 < usage["output_tokens"] <= 24
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert "sessionId" not in body
        assert not api.cookies
        assert not Session.objects.exists()
        assert not Conversation.objects.exists()
        assert Hold.objects.get().outcome == "released"
        assert not Lease.objects.live().exists()

    def test_the_context_and_the_history_reach_the_model(self, api: APIClient) -> None:
        body = chat(api, message="What is my cat called?", context="The user's cat is called Zebulon.").json()
        assert "Zebulon" in body["response"]
        history = [
            {"role": "user", "content": "My cat is called Zebulon."},
            {"role": "assistant", "content": "Zebulon is a fine name for a cat."},
        ]
        body = chat(api, message="What is my cat called?", conversation_history=history).json()
        assert "Zebulon" in body["response"]

    def test_a_conversation_that_grew_is_never_an_error(self, api: APIClient, settings: Settings) -> None:
        settings.CHAT_CONTEXT_WINDOW = 1024  # the packaged model's own takes half a minute to fill
        turn = "Tell me more about the history of the river and its bridges. " * 40
        history = [{"role": role, "content": turn} for _ in range(100) for role in ("user", "assistant")]
        response = chat(
            api, message="Say yes.", conversation_history=history, context="Bridges. " * 20_000, max_length=2
        )
        assert response.status_code == 200, response.content
        usage = response.json()["usage"]
        assert response.json()["model_info"]["context_window"] == 1024
        assert 512 < usage["input_tokens"] <= 1024

    def test_with_a_session_id_the_exchange_is_saved_and_remembered(self, api: APIClient) -> None:
        session_id = api.post("/api/conversations", {}, format="json").json()["sessionId"]
        body = chat(api, message="My cat is called Zebulon.", sessionId=session_id).json()
        assert body["sessionId"] == session_id
        body = chat(api, message="What is my cat called?", sessionId=session_id).json()
        assert "Zebulon" in body["response"]
        kept = api.get(f"/api/conversations/{session_id}").json()
        assert [message["role"] for message in kept["messages"]] == ["user", "assistant"] * 2
        assert kept["messages"][0]["content"] == "My cat is called Zebulon."
        assert kept["title"] == "My cat is called Zebulon."

    @pytest.mark.parametrize(
        ("body", "sentence"),
        [
            ({}, "Message is required"),
            ({"message": ""}, "Message is required"),
            ({"message": " \n\t"}, "Message is required"),
            ({"message": None}, "Message is required"),
            ({"message": ["x"]}, "Message is required"),
            ({"message": "x\x00y"}, "Null characters are not allowed."),
            ({"message": "x" * 100_001}, "The message is longer than 100,000 characters."),
            ({"message": "x", "context": 5.5e300}, None),
            ({"message": "x", "context": {"a": 1}}, "The context must be text."),
            ({"message": "x", "conversation_history": "y"}, "The history must be a list of messages."),
            ({"message": "x", "conversation_history": [5]}, None),
            ({"message": "x", "conversation_history": [{"role": "system", "content": "y"}]}, "The role of"),
            (
                {"message": "x", "conversation_history": [{"role": "user"}]},
                "Each history entry needs its content",
            ),
            ({"message": "x", "max_length": 0}, "The maximum length must be"),
            ({"message": "x", "max_length": "many"}, "The maximum length must be"),
            ({"message": "x", "temperature": 3}, "Temperature must be"),
            ({"message": "x", "temperature": None}, "Temperature must be"),
            ({"message": "x", "sessionId": 5, "max_length": 1}, "There is no such conversation"),
        ],
    )
    def test_bad_input_gets_a_sentence(
        self, api: APIClient, body: dict[str, Any], sentence: str | None
    ) -> None:
        response = api.post("/api/lightweight-llm/chat", body, format="json")
        if sentence is None:
            assert response.status_code in (200, 400)
        else:
            assert response.status_code in (400, 404), response.content
            assert response.json()["success"] is False
            assert response.json()["error"].startswith(sentence)
            assert not Hold.objects.exists()

    def test_a_message_longer_than_the_window_is_told_so_in_tokens(self, api: APIClient) -> None:
        response = chat(api, message="word " * 19_000)
        assert response.status_code == 400
        assert "tokens" in response.json()["error"]
        assert Hold.objects.get().outcome == "released"


class TestBusy:
    def test_somebody_else_is_a_503_that_says_so(self, api: APIClient) -> None:
        grant = mutex.acquire(LLM, "somebody")
        response = chat(api, message="hello")
        assert response.status_code == 503
        body = response.json()
        assert body == {
            "success": False,
            "error": "Someone else is using the chat service right now. Please try again in a minute or two.",
            "serviceUnavailable": True,
            "service": LLM,
            "reason": "busy",
            "retryAfter": int(response["Retry-After"]),
            "queueLength": 0,
        }
        mutex.release(grant)
        assert chat(api, message="hello").status_code == 200

    def test_the_callers_own_other_request_is_told_so(self, api: APIClient) -> None:
        user = User.objects.create_user("ann")
        _, token = get_token_model().objects.create(user=user)
        api.credentials(HTTP_AUTHORIZATION=f"Token {token}")
        mutex.acquire(LLM, f"user:{user.pk}")
        response = chat(api, message="hello")
        assert response.status_code == 503
        assert response.json()["error"].startswith("You are already using the chat service")
        assert response.json()["serviceUnavailable"] is True

    def test_two_strangers_are_two_people(self, api: APIClient) -> None:
        mutex.acquire(LLM, "passing:" + "0" * 32)
        assert chat(api, message="hello").json()["error"].startswith("Someone else")

    def test_a_disabled_service_says_so(self, api: APIClient) -> None:
        Service.objects.filter(pk=LLM).update(enabled=False, disabled_message="Closed until noon.")
        response = chat(api, message="hello")
        assert (response.status_code, response.json()["reason"]) == (503, "disabled")
        assert response.json()["error"] == "Closed until noon."


class TestDocumentChat:
    @pytest.mark.parametrize("path", ["/api/RAG/chat", "/api/RAG/document-chat", "/api/RAG/chat/"])
    def test_a_real_answer_from_a_real_document(self, api: APIClient, path: str) -> None:
        document_id = upload(api)
        question = "How many days of leave does an employee get?"
        response = document_chat(api, path, message=question, documentIds=[document_id])
        assert response.status_code == 200, response.content
        body = response.json()
        assert "31" in body["response"]
        assert body["notice"] is None
        (source, *_) = body["sources"]
        assert (source["documentId"], source["title"], source["isChunkResult"]) == (
            document_id,
            "Handbook",
            True,
        )
        assert "31 days" in source["snippet"]
        assert 0 < source["score"] <= 1
        assert isinstance(source["chunkIndex"], int)
        assert isinstance(body["processingTimeMs"], int)
        assert body["usage"]["total_tokens"] > 0
        assert body["model"]["context_window"] > 0
        kept = api.get(f"/api/conversations/{body['sessionId']}").json()["messages"]
        assert [message["content"] for message in kept] == [question, body["response"]]
        assert kept[1]["sources"] == body["sources"]

    def test_it_is_for_facts_and_a_chat_is_freer(self, api: APIClient) -> None:
        asked: dict[str, Any] = {"message": "How many days of leave?", "max_length": 1}
        chatted = api.post("/api/lightweight-llm/chat", asked, format="json").json()
        asked["documentIds"] = [upload(api)]
        answered = api.post("/api/RAG/chat", asked, format="json").json()
        assert (chatted["model_info"]["temperature"], answered["model"]["temperature"]) == (0.7, 0.1)

    def test_the_packaged_model_reads_what_was_found_without_its_neighbours(
        self, api: APIClient, settings: Settings
    ) -> None:
        lengthy = "\n\n".join(
            f"Rule {number}: {'The bees are to be left in peace. ' * 12}" for number in range(9)
        )
        asked = {"message": "What is rule 4?", "documentIds": [upload(api, lengthy)], "max_length": 1}
        alone = api.post("/api/RAG/chat", asked, format="json").json()
        settings.CHAT_NEIGHBOURS = True
        among_others = api.post("/api/RAG/chat", asked, format="json").json()
        assert alone["usage"]["input_tokens"] + 100 < among_others["usage"]["input_tokens"]

    def test_a_session_id_continues_its_conversation(self, api: APIClient) -> None:
        document_id = upload(api)
        first = document_chat(api, message="How much leave is there?", documentIds=[document_id]).json()
        second = document_chat(
            api,
            message="And what about bicycles?",
            documentIds=[document_id],
            sessionId=first["sessionId"],
        ).json()
        assert second["sessionId"] == first["sessionId"]
        assert Message.objects.filter(conversation=first["sessionId"]).count() == 4

    def test_without_vectors_it_uses_keywords_and_says_so(self, api: APIClient) -> None:
        document_id = upload(api, convert=False)
        body = document_chat(api, message="How many days of leave?", documentIds=[document_id]).json()
        assert "31 days" in body["sources"][0]["snippet"]
        assert body["notice"].startswith("1 of the chosen documents is not converted yet")

    def test_without_an_embedding_engine_it_uses_keywords_and_says_so(
        self, api: APIClient, settings: Settings
    ) -> None:
        document_id = upload(api)
        settings.EMBEDDING_BASE_URL, settings.EMBEDDING_MODEL = f"http://127.0.0.1:{free_port()}/v1", "gone"
        Document.objects.update(embedding_model="gone")
        body = document_chat(api, message="How many days of leave?", documentIds=[document_id]).json()
        assert "31 days" in body["sources"][0]["snippet"]
        assert body["notice"].startswith("The documents could be searched by keywords only")

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"message": "hello"},
            {"message": "hello", "documentIds": []},
            {"message": "hello", "documentIds": None},
            {"message": "", "documentIds": ["x"]},
            {"message": "hello", "documentIds": "x"},
        ],
    )
    def test_message_and_documents_are_required(self, api: APIClient, body: dict[str, Any]) -> None:
        response = api.post("/api/RAG/chat", body, format="json")
        assert response.status_code == 400
        assert response.json() == {"success": False, "error": "Message and document IDs are required"}

    @pytest.mark.parametrize("document_id", ["nonsense", "00000000-0000-0000-0000-000000000000"])
    def test_an_unknown_document_is_a_404(self, api: APIClient, document_id: str) -> None:
        response = document_chat(api, message="hello", documentIds=[document_id])
        assert response.status_code == 404
        assert response.json()["success"] is False
        assert not Lease.objects.live().exists()

    def test_busy_is_a_503(self, api: APIClient) -> None:
        document_id = upload(api, convert=False)
        mutex.acquire(LLM, "somebody")
        response = document_chat(api, message="hello", documentIds=[document_id])
        assert (response.status_code, response.json()["serviceUnavailable"]) == (503, True)


class TestWhoseIsWhat:
    def test_nobody_else_asks_reads_or_deletes(self, api: APIClient, other: APIClient) -> None:
        document_id = upload(api, convert=False)
        session_id = document_chat(api, message="leave?", documentIds=[document_id]).json()["sessionId"]
        upload(other, "their own text", convert=False)
        assert document_chat(other, message="leave?", documentIds=[document_id]).status_code == 404
        assert chat(other, message="hello", sessionId=session_id).status_code == 404
        assert other.get(f"/api/conversations/{session_id}").status_code == 404
        assert other.delete(f"/api/conversations/{session_id}").status_code == 404
        assert other.get("/api/conversations").json()["total"] == 0
        assert api.get("/api/conversations").json()["total"] == 1
        assert api.delete(f"/api/conversations/{session_id}").status_code == 200
        assert not Message.objects.exists()

    def test_a_token_and_a_login_are_the_same_person(self, api: APIClient, other: APIClient) -> None:
        user = User.objects.create_user("ann", password="a good password")
        import base64

        basic = base64.b64encode(b"ann:a good password").decode()
        made = api.post("/api/auth/token", HTTP_AUTHORIZATION=f"Basic {basic}")
        assert made.status_code == 201
        api.credentials(HTTP_AUTHORIZATION=f"Token {made.json()['token']}")
        document_id = upload(api, convert=False)
        other.force_login(user)
        assert other.get(f"/api/RAG/documents/{document_id}").status_code == 200
        assert api.delete("/api/auth/token").status_code == 200
        assert api.get("/api/RAG/documents").status_code == 401
        assert api.get("/api/RAG/documents").json()["success"] is False

    def test_a_wrong_password_makes_no_token(self, api: APIClient) -> None:
        assert api.post("/api/auth/token", HTTP_AUTHORIZATION="Basic YW5uOndyb25n").status_code == 401
        assert api.post("/api/auth/token").status_code == 401

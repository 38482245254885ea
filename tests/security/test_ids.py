"""Ids of other people's things, and ids read off the public status, open nothing."""

import json
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.test import Client

from chat.models import Conversation, Message
from documents.models import Chunk, Document
from leases import mutex
from leases.models import Lease
from tests.security.routes import addresses, parameters

pytestmark = pytest.mark.usefixtures("leases")

# Every route that takes something in its path. A new one is listed here once it is safe.
OF_THEIR_OWNER = {
    ("chunks", "document_id"),
    ("conversation", "session_id"),
    ("conversation-page", "session_id"),
    ("document", "document_id"),
    ("document-page", "document_id"),
    ("export", "kind"),
    ("export", "session_id"),
    ("message", "message_id"),
    ("message", "session_id"),
}
# Services are everybody's; what may be done to them, and whose sessions are shown, their own tests try.
OF_SERVICES = {
    (name, "service_id")
    for name in (
        *("service", "service-disable", "service-enable", "lease", "force-release"),
        *("session-acquire", "session-renew", "session-release"),
    )
}
OF_OPERATORS = {("ticket-remove", "ticket_id")}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
FORMS: list[dict[str, Any]] = [{"action": "delete"}, {"action": "convert", "message": "hello"}]


@pytest.fixture
def anns() -> dict[str, Any]:
    """Ann's document and conversation, by the names of the routes' parameters."""
    ann = User.objects.create_user("ann")
    owner = f"user:{ann.pk}"
    document = Document.objects.create(
        owner=owner, title="Secret", text="A secret.", content_type="text", file_size=9, word_count=2
    )
    Chunk.objects.create(document=document, index=0, text="A secret.", start=0, end=9)
    conversation = Conversation.objects.create(owner=owner, title="Secret", document_ids=[str(document.pk)])
    message = Message.objects.create(conversation=conversation, role="user", content="A secret.")
    return {"document_id": document.pk, "session_id": conversation.pk, "message_id": message.pk}


@pytest.fixture(params=["stranger", "browser", "bob"])
def somebody(request: pytest.FixtureRequest) -> Client:
    client = Client(raise_request_exception=False)
    if request.param == "browser":
        assert send(client, "POST", "/api/conversations", {"title": "Mine"}).status_code == 201
    if request.param == "bob":
        client.force_login(User.objects.create_user("bob"))
    return client


def send(client: Client, method: str, path: str, body: dict[str, Any]) -> Any:
    if path.startswith("/api/"):
        return client.generic(method, path, json.dumps(body), content_type="application/json")
    return client.post(path, body) if method == "POST" else client.generic(method, path)


def everything() -> list[Any]:
    return [list(model.objects.order_by("pk").values()) for model in (Document, Chunk, Conversation, Message)]


def test_every_route_with_an_id_is_known() -> None:
    found = {(name, parameter) for name, parameter in parameters() if not name.startswith("admin:")}
    assert found == OF_THEIR_OWNER | OF_SERVICES | OF_OPERATORS


def test_other_peoples_ids_open_nothing_by_any_route(anns: dict[str, Any], somebody: Client) -> None:
    names = {name for name, _ in OF_THEIR_OWNER}
    paths = [path for name, path in addresses(**anns) if name in names]
    assert len(paths) == len(names)
    before = everything()
    for path in paths:
        for method in METHODS:
            for body in FORMS:
                answer = send(somebody, method, path, body)
                assert answer.status_code in (404, 405), (method, path)
                assert b"ecret" not in answer.content
    assert everything() == before


def test_nor_in_a_body(anns: dict[str, Any], somebody: Client) -> None:
    document, conversation = str(anns["document_id"]), str(anns["session_id"])
    before = everything()
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/api/lightweight-llm/chat", {"message": "hello", "sessionId": conversation}),
        ("/api/RAG/chat", {"message": "hello", "documentIds": [document]}),
        ("/api/RAG/chat", {"message": "hello", "documentIds": [document], "sessionId": conversation}),
        ("/api/vector-convert-llm/process-document", {"document_id": document}),
        ("/api/RAG/embeddings", {"documentId": document}),
        ("/api/RAG/search", {"query": "secret", "documentIds": [document]}),
        ("/documents/", {"action": "delete", "document": document}),
        ("/documents/", {"action": "convert", "document": document}),
    ]
    for path, body in bodies:
        answer = send(somebody, "POST", path, body)
        assert answer.status_code == 404, (path, body)
        assert b"ecret" not in answer.content
    assert everything() == before
    assert not Lease.objects.live().exists()


def test_a_conversation_that_names_anothers_document_reads_nothing_of_it(
    anns: dict[str, Any], somebody: Client
) -> None:
    document = str(anns["document_id"])
    mine = send(somebody, "POST", "/api/conversations", {"title": "Mine"}).json()["sessionId"]
    changed = send(somebody, "PATCH", f"/api/conversations/{mine}", {"documentIds": [document]})
    assert changed.status_code in (200, 404)
    for path in (f"/c/{mine}/", f"/api/conversations/{mine}", f"/c/{mine}/export.json", "/documents/"):
        assert b"ecret" not in somebody.get(path).content
    body = {"message": "hello", "documentIds": [document], "sessionId": mine}
    assert send(somebody, "POST", "/api/RAG/chat", body).status_code == 404


def test_lists_and_searches_show_nothing_of_others(anns: dict[str, Any], somebody: Client) -> None:
    for path in (
        *("/", "/?search=secret", "/documents/", "/documents/?search=secret", "/api/RAG/documents"),
        *("/api/RAG/upload?search=secret", "/api/RAG/search?q=a+secret", "/api/RAG/stats"),
        *("/api/conversations", "/api/conversations?search=secret", "/documents/?q=a+secret"),
    ):
        answer = somebody.get(path)
        assert answer.status_code == 200
        assert b"Secret" not in answer.content
        assert b"A secret." not in answer.content


def test_the_publics_session_ids_are_good_for_nothing(anns: dict[str, Any], somebody: Client) -> None:
    grants = [mutex.acquire(service, "user:7") for service in ("lightweight-llm", "vector-convert")]
    status = somebody.get("/api/services/status").json()
    public = [session["sessionId"] for session in status["activeSessions"]]
    assert len(public) == 2
    assert not {grant.session_id for grant in grants} & set(public)
    for known in public:
        for session_id in (known, str(UUID(known))):
            for method in METHODS:
                for path in (
                    *(f"/api/RAG/documents/{session_id}", f"/api/RAG/documents/{session_id}/embedding"),
                    *(f"/api/conversations/{session_id}", f"/c/{session_id}/", f"/documents/{session_id}/"),
                    *(f"/c/{session_id}/export.md", f"/api/conversations/{session_id}/messages/1"),
                ):
                    assert send(somebody, method, path, {"action": "delete"}).status_code in (404, 405)
            for body in (
                {"message": "x", "sessionId": session_id},
                {"message": "x", "documentIds": [session_id]},
                {"document_id": session_id, "documentId": session_id},
            ):
                for path in ("/api/lightweight-llm/chat", "/api/RAG/chat", "/api/RAG/embeddings"):
                    assert send(somebody, "POST", path, body).status_code in (400, 404, 503)
            thief = Client(headers={"Authorization": f"Token {session_id}"})
            assert thief.get("/api/RAG/documents").status_code == 401
            thief = Client()
            thief.cookies["sessionid"] = session_id
            assert thief.get("/api/RAG/documents").json()["total"] == 0
    assert all(mutex.renew(grant) for grant in grants)

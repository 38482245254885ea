"""HTML in every field and hostile file names: shown as what they are, wherever they appear."""

import base64
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from lxml import html  # type: ignore[import-untyped]
from rest_framework.test import APIClient

from chat.models import Conversation, Message
from documents.models import Document
from leases import mutex
from leases.models import Hold, Service
from tests.security.routes import addresses

pytestmark = pytest.mark.usefixtures("leases")

EVIL = "</script><script>evil()</script><img src=x onerror=evil()>'\"><svg onload=evil()>"
SHORT = "'\"><img src=x onerror=evil()>"
NAMES = [
    "../../../../etc/passwd.txt",
    "..\\..\\windows\\system32\\a.txt",
    "/etc/cron.d/a.md",
    "C:\\a.txt",
    "a\0.exe\0.txt",
    "a\r\nX-Evil: 1\r\n\r\n<script>evil()</script>.txt",
    "x" * 10_000 + ".txt",
    "\u202etxt.exe\u202c.txt",
    f"{SHORT}.txt",
    "&lt;b&gt;.md",
    ".txt",
    "....txt",
    "con.txt",
    "a.txt;.exe",
    "a.txt\u0000",
    "💥\ufeff\u200b.txt",
    "%2e%2e%2fa.txt",
    "${jndi:ldap}.txt",
    "'; DROP TABLE documents_document; --.txt",
]


def faults(page: bytes) -> list[str]:
    """What in a page would run, had it come from a text."""
    tree = html.fromstring(page.decode())
    return [
        html.tostring(element, encoding="unicode")
        for element in tree.iter()
        if isinstance(element.tag, str)
        and (
            any(name.startswith("on") for name in element.attrib)
            or (
                element.tag == "script"
                and not element.get("src")
                and element.get("type") != "application/json"
            )
            or (element.tag == "img" and element.get("src") == "x")
            or any(str(value).strip().lower().startswith("javascript:") for value in element.attrib.values())
        )
    ]


@pytest.fixture
def ann(client: Client) -> User:
    user = User.objects.create_superuser(username=EVIL, first_name=EVIL, email="a@example.org")
    client.force_login(user)
    return user


@pytest.fixture
def things(ann: User) -> dict[str, Any]:
    """A document and a conversation of hers, with HTML in every text."""
    owner = f"user:{ann.pk}"
    source = {"title": EVIL, "snippet": EVIL, "documentId": EVIL, "heading": EVIL, "page": 1}
    document = Document.objects.create(
        owner=owner,
        title=EVIL,
        summary=EVIL,
        tags=[EVIL],
        text=EVIL * 3,
        content_type="markdown",
        file_size=1,
        word_count=3,
        embedding_model=EVIL,
    )
    document.chunks.create(index=0, text=EVIL, start=0, end=len(EVIL), heading=EVIL)
    conversation = Conversation.objects.create(owner=owner, title=EVIL[:100])
    for role in ("user", "assistant"):
        message = Message.objects.create(conversation=conversation, role=role, content=EVIL, sources=[source])
    for name in ("name", "busy_message", "own_busy_message", "disabled_message"):
        Service.objects.update(**{name: SHORT})
    mutex.release(mutex.acquire("lightweight-llm", EVIL[:60]))
    Hold.objects.update(owner=EVIL[:60], reason=EVIL)
    mutex.acquire("lightweight-llm", SHORT)
    return {
        "document_id": document.pk,
        "session_id": conversation.pk,
        "message_id": message.pk,
        "kind": "json",
    }


def test_html_in_any_field_is_text_on_every_page(client: Client, things: dict[str, Any]) -> None:
    paths = [path for name, path in addresses(**things) if name not in {"logout", "sign-out", "jsi18n"}]
    admin = [path for path in paths if path.startswith("/admin/")]
    assert len(admin) > 10
    queries = [
        f"/?search={EVIL}",
        f"/documents/?search={EVIL}",
        f"/documents/?q={EVIL}",
        f"/documents/?cursor={EVIL}",
        f"/sign-in/?next=/{EVIL}",
        f"/{EVIL}",
        f"/admin/auth/user/?q={EVIL}",
        f"/admin/leases/hold/?q={EVIL}",
        "/admin/leases/hold/1/change/",
        "/admin/leases/lease/1/change/",
        "/admin/leases/service/lightweight-llm/change/",
        f"/admin/{EVIL}",
        f"/admin/documents/document/{things['document_id']}/change/",
        f"/api/{EVIL}",
        f"/admin/documents/document/{things['document_id']}/delete/",
    ]
    shown = 0
    for path in [*paths, *queries]:
        answer = client.get(path)
        assert answer["X-Content-Type-Options"] == "nosniff"
        kind = answer["Content-Type"].split(";")[0]
        content = b"" if answer.streaming else answer.content
        if "export" in path:
            assert answer["Content-Disposition"].startswith("attachment;")
            assert kind in ("application/json", "text/markdown", "text/csv")
        elif path.startswith("/api") and path != "/api/docs":
            assert kind in ("application/json", "application/vnd.oai.openapi+json", "text/event-stream")
        elif path in ("/healthz", "/readyz", "/metrics"):
            assert kind in ("application/json", "text/plain", "text/html")  # the last for who may not see it
        elif content:
            assert kind == "text/html"
            assert "script-src 'self'" in answer["Content-Security-Policy"]
            assert faults(content) == [], path
            shown += b"evil()" in content
    assert shown > 15  # they are there, and harmless


def test_what_is_refused_is_told_without_running(client: Client, ann: User) -> None:
    for path, form in [
        ("/documents/", {"action": "paste", "title": EVIL, "content": EVIL, "contentType": EVIL}),
        ("/documents/", {"action": "paste", "title": EVIL, "content": EVIL}),
        ("/documents/", {"action": "upload", "file": SimpleUploadedFile(f"{SHORT}.exe", b"x")}),
        ("/documents/", {"action": "upload", "file": SimpleUploadedFile(f"{SHORT}.txt", b"x")}),
    ]:
        answer = client.post(path, form, follow=True)
        assert answer.status_code == 200
        assert faults(answer.content) == []
        assert b"evil()" in answer.content
    stranger = Client()
    refused = stranger.post("/sign-in/", {"username": SHORT, "password": EVIL, "next": EVIL})
    assert faults(refused.content) == []


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_a_hostile_file_name_is_at_most_a_title(client: Client, api: APIClient, number: int) -> None:
    file = SimpleUploadedFile("a.txt", b"Green tea.")
    file._name = NAMES[number]  # type: ignore[attr-defined]  # Django would clean it before it is sent
    answer = api.post("/api/RAG/upload", {"file": file}, format="multipart")
    assert answer.status_code in (201, 400), answer.content
    assert answer["Content-Type"] == "application/json"
    assert "X-Evil" not in answer.headers
    if answer.status_code == 201:
        title = answer.json()["document"]["title"]
        assert title.isprintable()
        assert 0 < len(title) <= 200
        assert "/" not in title
        assert "\\" not in title
    file.seek(0)
    page = client.post("/documents/", {"action": "upload", "file": file}, follow=True)
    assert page.status_code in (200, 400)  # the longest is a header that nobody reads
    assert faults(page.content) == []


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "\ud800", "\uffff\U0010ffff", "x" * 300_000], ids=lambda text: ascii(text[:3])
)
def test_odd_characters_are_no_server_error(client: Client, api: APIClient, text: str) -> None:
    client.raise_request_exception = False
    client.force_login(User.objects.create_superuser("root"))
    asked: list[Any] = []
    for who in (client, api):
        for path in (
            "/",
            "/documents/",
            "/sign-in/",
            "/api/RAG/documents",
            "/api/conversations",
            "/api/RAG/search",
        ):
            names = ("search", "q", "cursor", "limit", "next", "chunk", "part", "query")
            asked += [who.get(path, {name: text.encode("utf-8", "surrogatepass")[:4000]}) for name in names]
        for path in ("/sign-in/", "/", "/documents/"):
            asked.append(
                who.post(
                    path,
                    {
                        "username": text,
                        "password": text,
                        "title": text,
                        "content": text,
                        "message": "\0",
                        "action": "paste",
                        "next": text,
                    },
                )
                if text != "\ud800"
                else who.get(path)
            )
        for path, body in [
            ("/api/conversations", {"title": text}),
            ("/api/RAG/upload", {"title": text, "content": text, "tags": [text], "summary": text}),
            ("/api/RAG/search", {"query": text, "documentIds": [text]}),
            ("/api/RAG/embeddings", {"documentId": text}),
            ("/api/vector-convert-llm/process-document", {"document_id": text}),
            ("/api/RAG/chat", {"message": text, "documentIds": [text], "sessionId": text}),
            ("/api/lightweight-llm/chat", {"message": "x", "sessionId": text}),
        ]:
            asked.append(who.generic("POST", path, json.dumps(body), content_type="application/json"))
    for path in ("/admin/leases/hold/", "/admin/documents/document/", "/admin/auth/user/"):
        asked.append(client.get(path, {"q": text.encode("utf-8", "surrogatepass")[:4000]}))
    assert [answer.request["PATH_INFO"] for answer in asked if answer.status_code >= 500] == []


@pytest.mark.parametrize("name", ["a\0b", "\0", "\ud800", "x" * 10_000])
def test_odd_credentials_are_no_server_error(api: APIClient, name: str) -> None:
    basic = base64.b64encode(f"{name}:{name}".encode("utf-8", "surrogatepass")).decode()
    assert api.post("/api/auth/token", headers={"Authorization": f"Basic {basic}"}).status_code == 401
    octal = "".join(f"\\{byte:03o}" for byte in name.encode("utf-8", "surrogatepass")[:100])
    cookie = f'sessionid="{octal * 40}"'[:4000]
    for path in ("/", "/api/RAG/documents"):
        assert api.get(path, headers={"Cookie": cookie}).status_code in (200, 400)

"""The log: one request's way from the page to the engine, and nothing that anybody said."""

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection

from chat.engines.base import EngineError
from config.logs import JSON, Line, explained, fixed_words
from leases import mutex
from leases.models import Lease
from leases.owners import shown
from leases.request_id import begin_request, carrying, request_id
from tests.chat.scripted_engine_server import Call, ScriptedEngineServer
from tests.database import ROOT, query
from tests.documents import files
from tests.documents.embedding_server import Answer, EmbeddingServer, Request, embeddings
from tests.server import PRODUCTION, client_of_server

LLM, VECTORS = "lightweight-llm", "vector-convert"
CHAT = "/v1/chat/completions"
INFO = {"LOG_LEVEL": "INFO"}
S = "Qzsentinel"  # stands in everything that must never be in the log


def records(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


async def hello(call: Call) -> None:
    await call.begin()
    await call.token("Hello")
    await call.finish({"prompt_tokens": 3, "completion_tokens": 1})


def declared(base: str, length: int) -> str:
    """The request id of the answer to a body that is announced and never sent."""
    address = urlsplit(base)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        head = (
            f"POST /api/lightweight-llm/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        )
        client.sendall(head.encode())
        lines = client.recv(10_000).decode().lower().split("\r\n")
    assert lines[0].startswith("http/1.1 413")
    (found,) = (line.removeprefix("x-request-id: ") for line in lines if line.startswith("x-request-id: "))
    return found


class TestIds:
    @pytest.mark.parametrize("brought", ["a", "A-b_c.9", "x" * 64])
    def test_a_sane_one_is_kept(self, brought: str) -> None:
        assert begin_request(brought) == request_id() == brought

    @pytest.mark.parametrize("brought", ["", "x" * 65, "a b", "a\n", "ä", '"', "a;b", "\u0663"])
    def test_any_other_is_replaced(self, brought: str) -> None:
        assert begin_request(brought) != brought
        assert len(request_id()) == 32
        assert begin_request(brought) != begin_request(brought)

    def test_a_thread_works_for_the_request_that_called_it(self) -> None:
        begin_request("mine")
        call = carrying(request_id)
        begin_request("another")
        assert call() == "mine"


async def test_one_id_from_the_request_to_the_engine_and_back(leases: None, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with (
        ScriptedEngineServer({CHAT: hello}) as engine,
        EmbeddingServer(lambda asked: embeddings([[1.0, 0.5]] * len(asked.question["input"]))) as embedder,
        client_of_server(
            log=str(log),
            CHAT_BASE_URL=engine.base_url,
            CHAT_MODEL="scripted",
            CHAT_CONTEXT_WINDOW="2000",
            EMBEDDING_BASE_URL=embedder.url,
            EMBEDDING_MODEL="scripted",
            **PRODUCTION | INFO,
        ) as client,
    ):
        answer = await client.post(
            "/api/lightweight-llm/chat", json={"message": "hi"}, headers={"X-Request-ID": "from-the-page.1"}
        )
        assert answer.headers.get_list("X-Request-ID") == ["from-the-page.1"]
        assert engine.asked(CHAT)[0].headers["x-request-id"] == "from-the-page.1"
        pasted = {"title": "Tea", "content": "Green tea.", "contentType": "text"}
        await client.post("/api/RAG/upload", json=pasted)
        await client.get("/api/RAG/search?q=tea", headers={"X-Request-ID": "search"})
        assert embedder.requests[-1].headers["x-request-id"] == "search"
        made = await client.get("/nowhere", headers={"X-Request-ID": "not sane"})
        too_much = await asyncio.to_thread(declared, str(client.base_url), 3_000_000)
        static = await client.get("/static/css/site.css")
    ids = [made.headers["X-Request-ID"], too_much, static.headers["X-Request-ID"]]
    assert {len(each) for each in ids} == {32}
    assert len(set(ids)) == 3

    of_chat = [record for record in records(log) if record.get("request_id") == "from-the-page.1"]
    assert [record["message"] for record in of_chat] == ["acquired", "released", "answered"]
    acquired, released, answered = of_chat
    for event in (acquired, released):
        assert (event["service"], event["logger"], event["level"]) == (LLM, "leases.holding", "INFO")
        assert event["owner"].startswith("passing:")
        assert len(event["owner"]) == len("passing:") + 8
        assert len(event["session"]) == 32
        assert event["fencing_token"] == 1
        assert event["ms"] >= 0
    assert (answered["method"], answered["route"], answered["status"]) == (
        "POST",
        "/api/lightweight-llm/chat",
        200,
    )
    assert answered["bytes"] == int(answer.headers["Content-Length"])
    by_id = {record.get("request_id"): record for record in records(log)}
    assert [by_id[each]["status"] for each in ids] == [404, 413, 200]


async def test_refused_forced_and_gone(leases: None, tmp_path: Path) -> None:
    """What the log says when it does not go as it should."""
    log = tmp_path / "log"

    async def endless(call: Call) -> None:
        await call.begin()
        await call.token("Once")
        await call.hung_up.wait()

    def force() -> None:
        session_id = Lease.objects.live().get().session_id
        assert session_id is not None
        assert mutex.force_release(LLM, session_id, by="ops", reason=S)

    async def held() -> None:
        async with asyncio.timeout(20):
            while not await query(Lease.objects.live().exists):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def free() -> None:
        async with asyncio.timeout(20):
            while await query(Lease.objects.live().exists):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    url, hi = "/api/lightweight-llm/chat", {"message": "hi"}
    async with (
        ScriptedEngineServer({CHAT: endless}) as engine,
        client_of_server(
            log=str(log),
            CHAT_BASE_URL=engine.base_url,
            CHAT_MODEL="scripted",
            CHAT_CONTEXT_WINDOW="2000",
            LEASE_TTL="3",
            LEASE_HEARTBEAT="0.2",
            **PRODUCTION | INFO,
        ) as client,
    ):
        asking = asyncio.create_task(client.post(url, json=hi, headers={"X-Request-ID": "forced"}))
        await held()
        await client.post(url, json=hi, headers={"X-Request-ID": "refused"})
        await query(force)
        assert (await asyncio.wait_for(asking, 20)).status_code == 503
        with pytest.raises(httpx.ReadTimeout):
            await client.post(url, json=hi, headers={"X-Request-ID": "gone"}, timeout=1)
        await free()
        events = {"Accept": "text/event-stream", "X-Request-ID": "left"}
        async with client.stream("POST", url, json=hi, headers=events) as stream:
            async for line in stream.aiter_lines():
                if "token" in line:
                    break
        await free()

    def of(request: str) -> list[dict[str, Any]]:
        return [record for record in records(log) if record.get("request_id") == request]

    assert [record["message"] for record in of("forced")] == ["acquired", "forced", "answered"]
    refused, answered = of("refused")
    assert (refused["message"], refused["reason"], refused["service"]) == ("refused", "busy", LLM)
    assert answered["status"] == 503
    for request, status in (("gone", 499), ("left", 200)):
        (answered,) = (record for record in of(request) if record["message"] == "answered")
        assert (answered["client_left"], answered["status"]) == (True, status)
        assert (answered["bytes"] > 0) is (request == "left")
        assert {"acquired", "released"} < {record["message"] for record in of(request)}
    assert not [record for record in records(log) if record["level"] in ("ERROR", "CRITICAL")]


class TestNobodyIsQuoted:
    def record(self, name: str, message: str, *args: Any, error: BaseException | None = None) -> Any:
        caught = (type(error), error, error.__traceback__) if error else None
        return logging.LogRecord(name, logging.ERROR, "file", 1, message, args, caught)

    @pytest.mark.parametrize(
        ("message", "words"),
        [
            ("Internal Server Error: %s", "Internal Server Error: …"),
            ("%s: %s", "Something went wrong."),
            ("error connecting in %r: %(reason)s, %5.2f%%", "error connecting in …: …, …%%"),
            (f"Invalid HTTP_HOST header: '{S}'.", "Invalid HTTP_HOST header: …"),
            (f"Task exception was never retrieved\nfuture: {S}", "Task exception was never retrieved…"),
            (f"Exception in callback work({S})", "Exception in callback work…"),
        ],
    )
    def test_by_others_messages(self, message: str, words: str) -> None:
        assert fixed_words(message) == words

    @pytest.mark.parametrize("kind", [JSON, Line])
    def test_by_anything_of_a_record(self, kind: type[logging.Formatter]) -> None:
        def fail() -> None:
            try:
                {"": ""}[S]
            except KeyError as error:
                raise ValueError(S) from error

        try:
            fail()
        except ValueError as error:
            record = self.record("django.request", "%s: %s", S, S, error=error)
        record.request = f"<ASGIRequest: GET '/?q={S}'>"
        record.about = {"title": S}
        record.stack_info = S
        line = kind().format(record)
        assert S not in line
        assert "ValueError" in line
        assert "KeyError" in line
        assert "test_logs.py" in line

    def test_our_own_errors_may_speak(self) -> None:
        assert "EngineError: The model is away." in explained(EngineError("The model is away."))
        assert S not in explained(RuntimeError(S))

    def test_json_is_one_line_with_the_request(self) -> None:
        begin_request("mine")
        record = self.record("leases.x", "a\nb %s", "c")
        record.about = {"service": LLM}
        line = JSON().format(record)
        assert "\n" not in line
        told = json.loads(line)
        assert told["message"] == "a\nb c"
        assert (told["service"], told["request_id"], told["level"]) == (LLM, "mine", "ERROR")

    def test_owners_are_told_apart_and_no_more(self) -> None:
        assert shown("user:7") == "user:7"
        assert shown("browser:0123456789abcdef") == "browser:01234567"
        assert shown("shell:ann") == "shell"


TITLED = ("documents_document", "chat_conversation")


def refuse_titles() -> None:
    """Let the database refuse titles of these words, and quote them in saying so."""
    with connection.cursor() as cursor:
        for table in TITLED:
            if connection.vendor == "postgresql":
                cursor.execute(
                    f"CREATE UNIQUE INDEX odd_{table} ON {table} (title) WHERE title LIKE '%only once%'"
                )
            else:
                cursor.execute(
                    f"CREATE TRIGGER odd_{table} BEFORE INSERT ON {table} WHEN NEW.title LIKE '%only once%' "
                    f"BEGIN SELECT RAISE(ABORT, 'The title {S} is taken'); END"
                )


def take_titles_again() -> None:
    kind = "INDEX" if connection.vendor == "postgresql" else "TRIGGER"
    with connection.cursor() as cursor:
        for table in TITLED:
            cursor.execute(f"DROP {kind} IF EXISTS odd_{table}")


async def nonsense(call: Call) -> None:
    await call.begin()
    await call.send(f"data: {{{S} nonsense\n\n".encode())


async def refusal(call: Call) -> None:
    await call.answer({"error": {"message": f"{S} is not allowed"}}, status=500)


async def said(call: Call) -> None:
    await call.begin()
    await call.token(f"{S} is the answer")
    await call.finish({"prompt_tokens": 3, "completion_tokens": 1})


async def broken_off(call: Call) -> None:
    await call.begin()
    await call.token(f"{S} once upon")
    call.reset()


class Visit:
    """Everything that can be asked of the server, the sentinel in all of it."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.statuses: dict[int, set[str]] = {}
        client.headers.update(
            {
                "User-Agent": S,
                "Referer": f"http://127.0.0.1/documents/?search={S}",
                "X-Forwarded-For": S,
            }
        )
        client.cookies.set("other", S)

    async def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        answer = await self.client.request(method, path, **how)
        self.statuses.setdefault(answer.status_code, set()).add(f"{method} {path}")
        return answer

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return await self.ask("POST", path, json=body, headers=headers)

    async def document(self, title: str) -> str:
        body = {
            "title": title,
            "content": f"# {S}\n\nGreen {S} tea.",
            "contentType": "markdown",
            "tags": [S],
            "summary": S,
        }
        uploaded = await self.post("/api/RAG/upload", body)
        return str(uploaded.json()["documentId"]) if uploaded.status_code == 201 else ""

    async def upload(self, name: str, content: bytes) -> None:
        await self.ask("POST", "/api/RAG/upload", files={"file": (name, content)}, data={"title": S})

    async def chat(self, **more: Any) -> None:
        body = {"message": f"What is {S}?", "context": S, **more}
        body["conversation_history"] = [{"role": "user", "content": S}]
        for headers in ({}, {"Accept": "text/event-stream"}):
            await self.post("/api/lightweight-llm/chat", body, **headers)

    async def about(self, document: str, words: str = "What is") -> None:
        body = {"message": f"{words} {S}?", "documentIds": [document]}
        for headers in ({}, {"Accept": "text/event-stream"}):
            await self.post("/api/RAG/chat", body, **headers)

    async def documents(self) -> str:
        document = await self.document(S)
        await self.upload(f"{S}.md", f"# {S}".encode())
        await self.upload(f"{S}.pdf", f"%PDF-1.4 {S}".encode())
        await self.upload(f"{S}.docx", files.word_bomb(200))
        await self.upload(f"{S}.pdf", files.scanned_pdf())
        await self.upload(f"{S}.exe", S.encode())
        for path in ("documents", f"documents/{document}", f"documents/{document}/embedding", "stats"):
            await self.ask("GET", f"/api/RAG/{path}?search={S}&limit={S}")
            await self.ask("GET", f"/api/RAG/{path}?search={S}")
        for page in ("/documents/", f"/documents/{document}/", "/", "/status/", "/sign-in/", "/admin/"):
            await self.ask("GET", f"{page}?search={S}&q={S}&next={S}")
        for path in (S, "not-a-uuid"):
            await self.ask("GET", f"/api/RAG/documents/{path}")
            await self.ask("DELETE", f"/api/conversations/{path}")
            await self.ask("GET", f"/{path}/{S}?{S}")
        return document

    async def convert(self, document: str) -> None:
        for headers in ({}, {"Accept": "text/event-stream"}):
            await self.post("/api/vector-convert-llm/process-document", {"document_id": document}, **headers)
        await self.post("/api/RAG/embeddings", {"documentId": S})
        await self.ask("GET", f"/api/RAG/search?q={S}+tea")
        await self.post("/api/RAG/search", {"query": S, "documentIds": [document]})

    async def conversations(self) -> None:
        made = (await self.post("/api/conversations", {"title": S})).json()
        conversation = made["sessionId"]
        await self.chat(sessionId=conversation)
        await self.ask("PATCH", f"/api/conversations/{conversation}", json={"title": f"{S} again"})
        await self.ask("GET", f"/api/conversations?search={S}")
        await self.ask("GET", f"/api/conversations/{conversation}")
        await self.ask("GET", f"/c/{conversation}/export.md")
        await self.ask("DELETE", f"/api/conversations/{conversation}/messages/1")
        await self.ask("DELETE", f"/api/conversations/{conversation}")

    async def doors(self) -> None:
        page = await self.ask("GET", "/sign-in/")
        csrf = page.cookies.get("csrftoken", "")
        form = {"username": S, "password": f"{S} wrong", "csrfmiddlewaretoken": csrf}
        await self.ask("POST", "/sign-in/", data=form)
        await self.ask("POST", "/sign-in/", data=form, headers={"Origin": f"http://{S}.example"})
        await self.ask("POST", "/sign-in/", data={"username": S})
        await self.ask("POST", "/api/auth/token", auth=(S, S))
        for authorization in (f"Token {S}", f"Bearer {S}", f"Basic {S}", S):
            await self.ask("GET", "/api/RAG/documents", headers={"Authorization": authorization})
            await self.ask("GET", "/metrics", headers={"Authorization": authorization})
        await self.ask("GET", "/", headers={"Host": f"{S}.example"})
        await self.ask("GET", "/status/", headers={"Cookie": f"sessionid={S}"})
        await self.ask("GET", "/status/", headers={"X-Request-ID": f"{S} {S}"})
        for name in (f"/api/services/{S}", f"/api/leases/{S}", f"/api/services/{S}/disable"):
            await self.ask("GET", name)
            await self.post(name, {"reason": S, "note": S})
        for method in ("POST", "PUT", "OPTIONS"):
            await self.ask(method, f"/api/lightweight-llm/chat?{S}", content=f'{{"message": "{S}'.encode())
        self.statuses[413] = {await asyncio.to_thread(declared, str(self.client.base_url), 3_000_000)}
        await self.ask("POST", "/api/RAG/search", content=S.encode(), headers={"Content-Type": "text/csv"})
        boundary = {"Content-Type": f"multipart/form-data; boundary={S}"}
        await self.ask("POST", "/api/RAG/upload", content=b"--x", headers=boundary)
        await self.ask("POST", "/documents/", content=b"--x", headers=boundary)

    async def signed_in(self) -> None:
        page = await self.ask("GET", "/sign-in/")
        form = {"username": f"{S}-ops", "password": f"{S}-password"}
        form["csrfmiddlewaretoken"] = page.cookies.get("csrftoken", "") or self.client.cookies["csrftoken"]
        answer = await self.ask("POST", "/sign-in/", data=form)
        assert answer.status_code == 302
        token = await self.ask("POST", "/api/auth/token", auth=(f"{S}-ops", f"{S}-password"))
        assert token.status_code == 201, token.text
        for page_of in ("service", "lease", "ticket", "hold", "operation"):
            await self.ask("GET", f"/admin/leases/{page_of}/?q={S}")
        await self.ask("GET", f"/admin/auth/user/?q={S}")

    async def failures(self, document: str) -> None:
        """What no view expects: a constraint of the database that quotes what it refuses."""
        for _ in range(2):
            await self.document(f"only once {S}")
            await self.post("/api/conversations", {"title": f"only once {S}"})
            await self.about(document, "only once")


@pytest.mark.parametrize("mode", [PRODUCTION, {"DEBUG": "True"}], ids=["public", "debug"])
async def test_nothing_that_anybody_said_is_in_the_log(
    leases: None, tmp_path: Path, mode: dict[str, str]
) -> None:
    log = tmp_path / "log"
    answers = [said]
    vectors = [lambda asked: embeddings([[1.0, 0.5]] * len(asked.question["input"]))]

    async def chat(call: Call) -> None:
        await answers[-1](call)

    def embedding(asked: Request) -> Answer:
        return vectors[-1](asked)

    await query(User.objects.create_superuser, f"{S}-ops", password=f"{S}-password")
    secrets = {"CHAT_API_KEY": S, "EMBEDDING_API_KEY": S, "METRICS_TOKEN": S}
    if "SECRET_KEY" in mode:
        secrets["SECRET_KEY"] = f"{S} a key that is long enough for anybody who looks at it, and more"
    async with (
        ScriptedEngineServer({CHAT: chat}) as engine,
        EmbeddingServer(embedding) as embedder,
        client_of_server(
            log=str(log),
            CHAT_BASE_URL=engine.base_url,
            CHAT_MODEL="scripted",
            CHAT_CONTEXT_WINDOW="2000",
            CHAT_TIMEOUT="2",
            EMBEDDING_BASE_URL=embedder.url,
            EMBEDDING_MODEL="scripted",
            EMBEDDING_TIMEOUT="2",
            **mode | secrets | {"LOG_LEVEL": "DEBUG"},
        ) as client,
    ):
        visit = Visit(client)
        document = await visit.documents()
        await visit.convert(document)
        await visit.chat()
        await visit.about(document)
        await visit.conversations()
        await visit.doors()
        grant = await query(mutex.acquire, LLM, "somebody else")
        await visit.chat()
        await query(mutex.release, grant)
        for answers[-1] in (nonsense, refusal, broken_off):
            await visit.chat()
            await visit.about(document)
        answers[-1] = said
        for vectors[-1] in (
            lambda asked: Answer(f'{{"error": "{S}"}}'.encode(), status=500),
            lambda asked: Answer(f"{S} nonsense".encode()),
            lambda asked: embeddings([S] * len(asked.question["input"])),
        ):
            await visit.convert(await visit.document(S))
        vectors[-1] = lambda asked: embeddings([[1.0, 0.5]] * len(asked.question["input"]))
        try:
            await query(refuse_titles)
            await visit.failures(document)
        finally:
            await query(take_titles_again)
        await visit.signed_in()

    assert {200, 201, 302, 400, 401, 403, 404, 405, 413, 415, 422, 500, 502, 503} <= set(visit.statuses), (
        visit.statuses
    )
    text = log.read_text()
    quoting = [line for line in text.splitlines() if S.lower() in line.lower()]
    assert quoting == []
    assert "UniqueViolation" in text or "IntegrityError" in text
    assert text.count("answered") > 100
    if mode is PRODUCTION:
        assert all("level" in record for record in records(log))


@pytest.mark.parametrize("password", [f"{S}/x", f"{S}?x"])
def test_a_database_url_that_cannot_be_read_is_not_quoted(password: str) -> None:
    tried = subprocess.run(
        [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", "1"],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": f"postgresql://me:{password}@127.0.0.1/name"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "DATABASE_URL cannot be read" in tried.stderr
    assert S not in tried.stderr + tried.stdout

"""People and programs who use the site all the while, each as its pages and its documentation say."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any

import httpx

from rehearsal.book import Book

COME_BACK = "The server is being restarted."
"""How the sentence begins by which a server that stops sends those away who wait."""
PATIENCE_SECONDS = 120
WORDS = "The lighthouse keeper counts the ships that pass in the night and writes them down. "
CHAT = "/api/lightweight-llm/chat"
CONVERT = "/api/vector-convert-llm/process-document"


class SentAway(Exception):  # noqa: N818
    """The server stops: ask again after so many seconds. `place` is the last place in line that was told."""

    def __init__(self, seconds: float, place: int | None = None) -> None:
        super().__init__(f"asked to come back in {seconds:g} s")
        self.seconds = seconds
        self.place = place


class Lost(Exception):  # noqa: N818
    """A request that got no proper answer."""


class Visitors:
    """All of them; `enough` sends them home after the answers that they still wait for."""

    def __init__(self, base_url: str, trust: SSLContext, tokens: list[str], book: Book) -> None:
        self._base_url = base_url
        self._trust = trust
        self._tokens = tokens
        self._book = book
        self._enough = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def arrive(self) -> None:
        """Let them in: by token and by cookie, on streams, with long waits and with none."""
        streaming, waiting, converting = self._tokens[:3], self._tokens[3:5], self._tokens[5:7]
        routines: list[tuple[Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]], str | None]] = [
            *((self._talk_on_a_stream, token) for token in (*streaming, None, None, None)),
            *((self._talk_and_wait, token) for token in (*waiting, None)),
            *((self._convert_on_a_stream, token) for token in (converting[0], None)),
            *((self._convert_and_wait, token) for token in (converting[1], None)),
            (self._try_without_waiting, None),
            (self._upload_slowly, None),
            (self._look_at_the_status, None),
            (self._look_at_pages, None),
        ]
        self._tasks = [asyncio.create_task(self._visit(routine, token)) for routine, token in routines]

    async def leave(self, seconds: float) -> None:
        """Wait until all have their answers; what is not answered by then is lost."""
        self._enough.set()
        _, pending = await asyncio.wait(self._tasks, timeout=seconds)
        for task in pending:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, asyncio.CancelledError):
                self._book.lost.append(f"no answer {seconds:.0f} s after the end")
            elif result is not None:
                raise result

    async def _visit(
        self, routine: Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]], token: str | None
    ) -> None:
        headers = {"Authorization": f"Token {token}"} if token else {}
        async with httpx.AsyncClient(
            base_url=self._base_url, verify=self._trust, headers=headers, timeout=PATIENCE_SECONDS + 10
        ) as client:
            if not token:  # from now on this browser has a cookie, and so a name by which it can come back
                await self._ask(client, "conversation", "POST", "/api/conversations", json={})
            while not self._enough.is_set():
                await routine(client)

    async def _talk_on_a_stream(self, client: httpx.AsyncClient) -> None:
        await self._follow(client, "chat stream", CHAT, {"message": "Name a river.", "max_length": 8})

    async def _talk_and_wait(self, client: httpx.AsyncClient) -> None:
        question = {"message": "Name a mountain.", "max_length": 8}
        await self._ask(client, "chat", "POST", CHAT, json=question, headers=_prefer())

    async def _try_without_waiting(self, client: httpx.AsyncClient) -> None:
        question = {"message": "Name a lake.", "max_length": 8}
        await self._ask(client, "chat at once", "POST", CHAT, json=question, may_be_busy=True)
        await asyncio.sleep(0.5)

    async def _convert_on_a_stream(self, client: httpx.AsyncClient) -> None:
        if document := await self._upload(client):
            await self._follow(client, "conversion stream", CONVERT, {"document_id": document})
            await self._ask(client, "delete", "DELETE", f"/api/RAG/documents/{document}")

    async def _convert_and_wait(self, client: httpx.AsyncClient) -> None:
        if document := await self._upload(client):
            body = {"document_id": document}
            await self._ask(client, "conversion", "POST", CONVERT, json=body, headers=_prefer())
            await self._ask(client, "delete", "DELETE", f"/api/RAG/documents/{document}")

    async def _upload(self, client: httpx.AsyncClient) -> str | None:
        body = {"title": "Ships", "content": WORDS * 60, "contentType": "text"}
        answer = await self._ask(client, "upload", "POST", "/api/RAG/upload", json=body)
        document: str | None = answer["documentId"] if answer else None
        return document

    async def _upload_slowly(self, client: httpx.AsyncClient) -> None:
        """Over a bad line: the body takes longer than taking a server out of nginx."""

        async def dripping() -> AsyncIterator[bytes]:
            yield b'{"title": "Slow ships", "contentType": "text", "content": "'
            for _ in range(10):
                yield WORDS.encode() * 20
                await asyncio.sleep(0.3)
            yield b'"}'

        headers = {"Content-Type": "application/json"}
        answer = await self._ask(
            client, "slow upload", "POST", "/api/RAG/upload", content=dripping, headers=headers
        )
        if answer:
            await self._ask(client, "delete", "DELETE", f"/api/RAG/documents/{answer['documentId']}")

    async def _look_at_the_status(self, client: httpx.AsyncClient) -> None:
        began = time.monotonic()
        await self._ask(client, "status", "GET", "/api/services/status")
        self._book.slowest_status = max(self._book.slowest_status, time.monotonic() - began)
        await asyncio.sleep(0.05)

    async def _look_at_pages(self, client: httpx.AsyncClient) -> None:
        for path in ("/", "/status/", "/documents/", "/static/js/api.js"):
            await self._ask(client, "page", "GET", path)
            await asyncio.sleep(0.1)

    async def _ask(
        self,
        client: httpx.AsyncClient,
        kind: str,
        method: str,
        path: str,
        *,
        may_be_busy: bool = False,
        content: Callable[[], AsyncIterator[bytes]] | None = None,
        **request: Any,
    ) -> dict[str, Any] | None:
        """One request until it is answered; the JSON of a success, if it is any."""

        async def attempt() -> httpx.Response:
            answer = await client.request(method, path, content=content() if content else None, **request)
            _check(answer, may_be_busy=may_be_busy)
            return answer

        answer = await self._until_answered(kind, attempt)
        if answer is None:
            return None
        self._book.answers[str(answer.status_code)] += 1
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        body: dict[str, Any] | None = answer.json() if is_json and answer.is_success else None
        return body

    async def _follow(
        self, client: httpx.AsyncClient, kind: str, path: str, question: dict[str, Any]
    ) -> None:
        """One stream until its `done`. A place in line that was lost by a restart is noted."""
        before: int | None = None

        async def attempt() -> str:
            nonlocal before
            try:
                async for event, data in self._events(client, path, question):
                    if before is not None and event in ("queued", "started"):
                        self._book.places.append((before, data.get("position", 0)))
                        before = None
                    if event == "done":
                        return "200 stream"
            except SentAway as away:
                before = away.place if before is None else before
                raise
            raise Lost("the stream ended before it was done")

        answer = await self._until_answered(kind, attempt)
        if answer:
            self._book.answers[answer] += 1

    async def _events(
        self, client: httpx.AsyncClient, path: str, question: dict[str, Any]
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        headers = {"Accept": "text/event-stream", **_prefer()}
        place = None
        async with client.stream("POST", path, json=question, headers=headers) as answer:
            if answer.status_code != httpx.codes.OK:
                await answer.aread()
            _check(answer)
            rest, heard = "", time.monotonic()
            async for text in answer.aiter_text():
                self._book.longest_silence = max(self._book.longest_silence, time.monotonic() - heard)
                heard = time.monotonic()
                *events, rest = (rest + text).split("\n\n")
                for event in events:
                    if event.startswith(":"):
                        continue
                    name, data = event.removeprefix("event: ").split("\ndata: ", 1)
                    fields = json.loads(data)
                    place = fields.get("position", place) if name == "queued" else place
                    if name == "error":
                        _refused(fields, fields["status"], place)
                    yield name, fields

    async def _until_answered(self, kind: str, attempt: Callable[[], Coroutine[Any, Any, Any]]) -> Any | None:
        """What the attempt comes to in the end; None if the request was lost."""
        self._book.sent[kind] += 1
        while True:
            try:
                return await attempt()
            except SentAway as away:
                self._book.sent_away += 1
                await asyncio.sleep(away.seconds)
            except (Lost, httpx.TransportError) as error:
                self._book.lost.append(f"{time.strftime('%H:%M:%S')} {kind}: {error!r}")
                return None


def _prefer() -> dict[str, str]:
    return {"Prefer": f"wait={PATIENCE_SECONDS}"}


def _check(answer: httpx.Response, *, may_be_busy: bool = False) -> None:
    """Raises SentAway, or Lost for what is no answer to a sound request."""
    if answer.is_success:
        return
    is_json = answer.headers.get("Content-Type", "").startswith("application/json")
    body = answer.json() if is_json else {}
    if may_be_busy and answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and body.get("reason") == "busy":
        return
    _refused(body, answer.status_code, None)


def _refused(body: dict[str, Any], status: int, place: int | None) -> None:
    sentence = str(body.get("error", ""))
    if sentence.startswith(COME_BACK):
        raise SentAway(float(body["retryAfter"]), place)
    raise Lost(f"{status} {sentence}")


def trusting(certificate: Path) -> SSLContext:
    """Trust this one certificate and no other."""
    return create_default_context(cafile=certificate)

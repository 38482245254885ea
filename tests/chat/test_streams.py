"""Waiting and streaming over HTTP: real servers, a scripted engine, and what the contract promises."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from chat.models import Message
from leases import mutex
from leases.models import Lease, Ticket
from tests.chat.scripted_engine_server import Call, ScriptedEngineServer
from tests.chat.test_faults import CHAT, break_off, is_free, outcomes, refuse, site, stop_answering
from tests.database import query
from tests.server import free_port, running_server

pytestmark = pytest.mark.usefixtures("leases")

ROUTE = "/api/lightweight-llm/chat"
EVENTS = {"Accept": "text/event-stream"}
HELLO = {"message": "hello"}
FAST = {"LEASE_TTL": "3", "LEASE_HEARTBEAT": "0.2"}

Event = tuple[str, Any]


@asynccontextmanager
async def streaming(
    client: httpx.AsyncClient, body: Any = HELLO, *, wait: int | None = None
) -> AsyncIterator[AsyncIterator[Event]]:
    headers = EVENTS | ({"Prefer": f"wait={wait}"} if wait is not None else {})
    async with client.stream("POST", ROUTE, json=body, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield events(response)


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    name = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def everything(client: httpx.AsyncClient, body: Any = HELLO, *, wait: int | None = None) -> list[Event]:
    async with streaming(client, body, wait=wait) as stream:
        return [event async for event in stream]


async def next_event(stream: AsyncIterator[Event], name: str) -> Any:
    async with asyncio.timeout(20):
        async for event, data in stream:
            if event == name:
                return data
    raise AssertionError(f"the stream ended without {name}")


async def begun(engine: ScriptedEngineServer, calls: int = 1) -> Call:
    async with asyncio.timeout(20):
        while len(engine.asked(CHAT)) < calls:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return engine.asked(CHAT)[-1]


async def until(condition: Any, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await query(condition):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class Answers:
    """Answers each question with three tokens, the last of them when told to go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        await call.begin()
        await call.token("Good ")
        await call.token("morning")
        await self.go_on.wait()
        await call.token(".")
        await call.finish({"prompt_tokens": 3, "completion_tokens": 3})


async def speak_at_once(call: Call) -> None:
    await call.begin()
    await call.token("Hello")
    await call.finish({"prompt_tokens": 3, "completion_tokens": 1})


async def sign_up(client: httpx.AsyncClient) -> str:
    """A browser's session with a conversation of its own."""
    session_id: str = (await client.post("/api/conversations", json={})).json()["sessionId"]
    return session_id


async def messages(client: httpx.AsyncClient, session_id: str) -> list[tuple[str, bool]]:
    kept = (await client.get(f"/api/conversations/{session_id}")).json()["messages"]
    return [(message["content"], message["incomplete"]) for message in kept]


def somebody_waits() -> bool:
    return Ticket.objects.live().exists()


def force() -> bool:
    session_id = Lease.objects.live().get().session_id
    assert session_id is not None
    return mutex.force_release("lightweight-llm", session_id, by="ops", reason="needed")


class TestStream:
    async def test_tokens_leave_as_the_model_makes_them_and_done_has_the_whole_answer(self) -> None:
        answers = Answers()
        async with ScriptedEngineServer({CHAT: answers}) as engine, site(engine.base_url) as client:
            async with streaming(client) as stream:
                started = await next_event(stream, "started")
                assert started.keys() == {"sessionId", "queuedMs"}
                public = (await client.get("/api/services/status")).json()["activeSessions"]
                assert public[0]["sessionId"] == started["sessionId"]
                assert await next_event(stream, "token") == {"text": "Good "}
                assert await next_event(stream, "token") == {"text": "morning"}
                answers.go_on.set()
                rest = [event async for event in stream]
            assert rest[0] == ("token", {"text": "."})
            assert [name for name, _ in rest] == ["token", "done"]
            done = rest[-1][1]
            answer = (await client.post(ROUTE, json=HELLO)).json()
            assert done.keys() == answer.keys()
            assert done["response"] == answer["response"] == "Good morning."
            assert await query(outcomes) == ["released", "released"]

    async def test_what_fails_before_the_first_byte_has_its_true_status(self) -> None:
        async with ScriptedEngineServer({CHAT: refuse}) as engine, site(engine.base_url) as client:
            assert (await client.post(ROUTE, json=HELLO, headers=EVENTS)).status_code == 502
            blank = await client.post(ROUTE, json={"message": " "}, headers=EVENTS)
            assert (blank.status_code, blank.json()["error"]) == (400, "Message is required")
        async with site(f"http://127.0.0.1:{free_port()}/v1") as client:
            absent = await client.post(ROUTE, json=HELLO, headers=EVENTS)
            assert absent.status_code == 502
            assert absent.headers["content-type"] == "application/json"

    async def test_a_busy_service_refuses_a_stream_that_would_not_wait(self) -> None:
        async with ScriptedEngineServer({CHAT: stop_answering}) as engine, site(engine.base_url) as client:
            async with streaming(client) as stream:
                await next_event(stream, "token")
                refused = await client.post(ROUTE, json=HELLO, headers=EVENTS)
            assert (refused.status_code, refused.json()["reason"]) == (503, "busy")
            assert int(refused.headers["Retry-After"]) == refused.json()["retryAfter"]
            assert "Preference-Applied" not in refused.headers

    async def test_an_engine_that_breaks_off_ends_in_an_error_event_and_what_it_said_is_kept(self) -> None:
        async def say_some_and_break_off(call: Call) -> None:
            await call.begin()
            await call.token("Once upon a")
            await asyncio.sleep(0.5)
            call.reset()

        async with (
            ScriptedEngineServer({CHAT: say_some_and_break_off}) as engine,
            site(engine.base_url) as client,
        ):
            session_id = await sign_up(client)
            said = await everything(client, HELLO | {"sessionId": session_id})
            assert [name for name, _ in said] == ["started", "token", "error"]
            assert said[0][1]["conversationId"] == session_id
            error = said[-1][1]
            assert (error["status"], error["success"]) == (502, False)
            assert error["error"].endswith(".")
            assert await messages(client, session_id) == [("hello", False), ("Once upon a", True)]
            assert await is_free(client)

    async def test_a_broken_answer_begins_the_conversation_that_a_whole_one_would(self) -> None:
        async with ScriptedEngineServer({CHAT: break_off}) as engine, site(engine.base_url) as client:
            body = {"title": "Cats", "content": "Cats sleep all day.", "contentType": "text"}
            document_id = (await client.post("/api/RAG/upload", json=body)).json()["documentId"]
            asked = {"message": "What do cats do?", "documentIds": [document_id]}
            await client.post("/api/RAG/chat", json=asked)
            (kept,) = (await client.get("/api/conversations")).json()["conversations"]
            assert await messages(client, kept["sessionId"]) == [
                ("What do cats do?", False),
                ("Once upon a", True),
            ]

    async def test_when_the_reader_goes_the_model_stops_first_and_the_service_is_free_at_once(self) -> None:
        async with ScriptedEngineServer({CHAT: stop_answering}) as engine, site(engine.base_url) as client:
            session_id = await sign_up(client)
            async with streaming(client, HELLO | {"sessionId": session_id}) as stream:
                await next_event(stream, "token")
            (call,) = engine.asked(CHAT)
            await asyncio.wait_for(call.hung_up.wait(), 2)
            await until(lambda: not Lease.objects.live().exists(), 2)
            assert await query(outcomes) == ["released"]
            await until(Message.objects.exists, 2)
            assert await messages(client, session_id) == [("hello", False), ("Once upon a", True)]

    async def test_a_reader_who_vanishes_while_the_server_is_blocked_in_a_send_leaves_nothing(self) -> None:
        """The client reads nothing at all, so that the server's buffers fill, and then resets."""
        speaking = asyncio.Event()

        async def speak_without_end(call: Call) -> None:
            await call.begin()
            while not call.hung_up.is_set():
                await call.token("word " * 20_000)
                await asyncio.sleep(0)
                speaking.set()

        async with (
            ScriptedEngineServer({CHAT: speak_without_end}) as engine,
            site(engine.base_url) as client,
        ):
            address = httpx.URL(str(client.base_url))
            _, writer = await asyncio.open_connection(address.host, address.port, limit=1024)
            body = json.dumps(HELLO).encode()
            head = (
                f"POST {ROUTE} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await asyncio.wait_for(speaking.wait(), 10)
            await asyncio.sleep(0.5)  # for the buffers between them to fill
            (call,) = engine.asked(CHAT)
            assert not call.hung_up.is_set()
            writer.transport.abort()
            await asyncio.wait_for(call.hung_up.wait(), 5)
            await until(lambda: not Lease.objects.live().exists(), 5)
            assert await query(outcomes) == ["released"]

    async def test_a_forced_end_is_told_in_words_and_the_next_is_served(self) -> None:
        async with (
            ScriptedEngineServer({CHAT: stop_answering}) as engine,
            site(engine.base_url, **FAST) as client,
        ):
            session_id = await sign_up(client)
            async with streaming(client, HELLO | {"sessionId": session_id}) as stream:
                await next_event(stream, "token")
                assert await query(force)
                error = await next_event(stream, "error")
            assert (error["status"], error["ended"]) == (503, "forced")
            assert error["error"].startswith("Your session was ended by an administrator.")
            await asyncio.wait_for(engine.asked(CHAT)[0].hung_up.wait(), 2)
            assert await messages(client, session_id) == [("hello", False), ("Once upon a", True)]

    async def test_an_idle_stream_is_kept_alive_by_comments(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from leases import event_stream

        monkeypatch.setattr(event_stream, "KEEP_ALIVE_SECONDS", 0.05)

        async def slow(tell: Any) -> dict[str, Any]:
            tell("queued", {"position": 1})
            await asyncio.sleep(0.2)
            return {"success": True}

        stream = event_stream.EventStream(slow, lambda error: {}, lambda: None)
        await stream.begin()
        said = [event async for event in stream]
        assert said.count(b": still here\n\n") >= 2
        assert said[-1] == b'event: done\ndata: {"success": true}\n\n'


class TestQueue:
    async def test_who_waits_hears_the_place_and_starts_by_itself(self) -> None:
        answers = Answers()
        async with (
            ScriptedEngineServer({CHAT: answers}) as engine,
            site(engine.base_url) as one,
            site(engine.base_url) as two,
        ):
            holding = asyncio.create_task(everything(one))
            await begun(engine)
            async with streaming(two, wait=30) as second:
                assert (await next_event(second, "queued"))["position"] == 1
                async with streaming(one, wait=30) as third:
                    assert (await next_event(third, "queued"))["position"] == 2
                    status = (await two.get("/api/services/status")).json()["services"]["chat"]
                    assert status["queue"]["length"] == 2
                    newcomer = (await one.post(ROUTE, json=HELLO)).json()
                    assert (newcomer["reason"], newcomer["queueLength"]) == ("busy", 2)
                    answers.go_on.set()
                    assert (await next_event(second, "started"))["queuedMs"] > 0
                    assert (await next_event(second, "done"))["response"] == "Good morning."
                    assert (await next_event(third, "done"))["response"] == "Good morning."
            assert (await holding)[-1][0] == "done"
            assert await query(outcomes) == ["released"] * 3
            assert not await query(Ticket.objects.exists)

    async def test_json_waits_too_and_says_so(self) -> None:
        answers = Answers()
        async with ScriptedEngineServer({CHAT: answers}) as engine, site(engine.base_url) as client:
            holding = asyncio.create_task(everything(client))
            await begun(engine)
            waiting = asyncio.create_task(client.post(ROUTE, json=HELLO, headers={"Prefer": "wait=20"}))
            await until(somebody_waits)
            answers.go_on.set()
            response = await waiting
            assert (response.status_code, response.json()["response"]) == (200, "Good morning.")
            assert response.headers["Preference-Applied"] == "wait=20"
            await holding

    async def test_the_end_of_the_wait_is_told(self) -> None:
        async with ScriptedEngineServer({CHAT: stop_answering}) as engine, site(engine.base_url) as client:
            async with streaming(client) as stream:
                await next_event(stream, "token")
                refused = await client.post(ROUTE, json=HELLO, headers={"Prefer": "wait=1"})
                assert (refused.status_code, refused.json()["reason"]) == (503, "wait_timeout")
                assert refused.headers["Preference-Applied"] == "wait=1"
                said = await everything(client, wait=1)
                assert [name for name, _ in said] == ["queued", "error"]
                assert (said[-1][1]["status"], said[-1][1]["reason"]) == (503, "wait_timeout")
            assert not await query(Ticket.objects.exists)

    async def test_a_full_queue_is_told_before_the_first_byte(self) -> None:
        async with (
            ScriptedEngineServer({CHAT: stop_answering}) as engine,
            site(engine.base_url, LEASE_QUEUE_LIMIT="1") as client,
        ):
            async with streaming(client) as stream:
                await next_event(stream, "token")
                async with streaming(client, wait=20) as queued:
                    await next_event(queued, "queued")
                    refused = await client.post(ROUTE, json=HELLO, headers=EVENTS | {"Prefer": "wait=5"})
                    assert (refused.status_code, refused.json()["reason"]) == (503, "queue_full")

    async def test_a_reloaded_page_keeps_its_place(self) -> None:
        answers = Answers()
        async with (
            ScriptedEngineServer({CHAT: answers}) as engine,
            site(engine.base_url) as holder,
            httpx.AsyncClient(base_url=holder.base_url, timeout=60) as ann,
            httpx.AsyncClient(base_url=holder.base_url, timeout=60) as bob,
        ):
            await sign_up(ann)
            await sign_up(bob)
            holding = asyncio.create_task(everything(holder))
            await begun(engine)
            async with streaming(ann, wait=60) as before:
                await next_event(before, "queued")
                async with streaming(bob, wait=60) as behind:
                    assert (await next_event(behind, "queued"))["position"] == 2
                    async with streaming(ann, wait=60) as after:  # while the first is still open
                        assert (await next_event(after, "queued"))["position"] == 1
                        told = await next_event(before, "error")
                        assert "in another window" in told["error"]
                    # and now the connection drops: nobody is held up, and the place is kept
                    await until(lambda: Ticket.objects.live().count() == 1)
                    assert (await next_event(behind, "queued"))["position"] == 1
                    async with streaming(ann, wait=60) as again:
                        assert (await next_event(again, "queued"))["position"] == 1
                        answers.go_on.set()
                        await next_event(again, "done")
                        await next_event(behind, "done")
            await holding

    async def test_a_place_that_is_given_up_passes_on(self) -> None:
        answers = Answers()
        async with ScriptedEngineServer({CHAT: answers}) as engine, site(engine.base_url) as client:
            holding = asyncio.create_task(everything(client))
            await begun(engine)
            async with streaming(client, wait=60) as stream:
                await next_event(stream, "queued")
            await until(lambda: not somebody_waits())
            assert not await query(Ticket.objects.exists)  # a stranger cannot come back to it
            answers.go_on.set()
            await holding
            assert (await client.post(ROUTE, json=HELLO)).status_code == 200

    async def test_a_service_that_is_switched_off_sends_its_queue_away(self) -> None:
        from leases.models import Service

        async with ScriptedEngineServer({CHAT: stop_answering}) as engine, site(engine.base_url) as client:
            async with streaming(client) as stream:
                await next_event(stream, "token")
                async with streaming(client, wait=60) as queued:
                    await next_event(queued, "queued")
                    await query(Service.objects.filter(pk="lightweight-llm").update, enabled=False)
                    told = await next_event(queued, "error")
                    assert (told["status"], told["reason"]) == (503, "disabled")

    async def test_a_server_that_stops_finishes_its_answer_and_sends_its_queue_away(self) -> None:
        """SIGTERM: who is served is served to the end, who waits is told to come back and keeps the place."""
        answers = Answers()
        async with ScriptedEngineServer({CHAT: answers}) as engine, site(engine.base_url) as staying:
            leaving = running_server(grace="15", CHAT_BASE_URL=engine.base_url, CHAT_MODEL="scripted")
            base_url = await asyncio.to_thread(leaving.__enter__)
            async with httpx.AsyncClient(base_url=base_url, timeout=60) as client:
                await sign_up(client)
                holding = asyncio.create_task(everything(client))
                await begun(engine)
                async with streaming(client, wait=60) as queued:
                    await next_event(queued, "queued")
                    stopping = asyncio.create_task(asyncio.to_thread(leaving.__exit__, None, None, None))
                    told = await next_event(queued, "error")
                assert (told["status"], told["serviceUnavailable"]) == (503, True)
                assert "restarted" in told["error"]
                ticket = await query(Ticket.objects.get)
                async with httpx.AsyncClient(
                    base_url=staying.base_url, cookies=client.cookies, timeout=60
                ) as again:
                    async with streaming(again, wait=60) as back:
                        await next_event(back, "queued")
                        assert await query(Ticket.objects.get) == ticket
                        answers.go_on.set()
                        assert (await holding)[-1][1]["response"] == "Good morning."
                        await next_event(back, "done")
            await stopping
            assert await query(outcomes) == ["released", "released"]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=10", 10),
        ("WAIT = 10", 10),
        ('respond-async, wait="10"; foo=bar', 10),
        ("wait=5, wait=10", 5),
        ("wait=0", 0),
        ("wait=999999", 3600),
        ("wait", None),
        ("wait=-1", None),
        ("wait=ten", None),
        ("wait=1.5", None),
        ("waits=3", None),
        ("", None),
    ],
)
def test_the_prefer_header_is_read_as_its_standard_says(header: str, seconds: float | None) -> None:
    from leases.guarded_view import wait_of

    assert wait_of(header) == seconds

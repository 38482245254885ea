"""What callers and the lease see when the engine misbehaves: real servers, a scripted engine."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from leases import mutex
from leases.models import Hold, Lease
from tests.chat.scripted_engine_server import Call, Script, ScriptedEngineServer
from tests.database import query
from tests.server import client_of_server, free_port

pytestmark = pytest.mark.usefixtures("leases")

CHAT = "/v1/chat/completions"


def site(base_url: str, **environment: str) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    """A client of a real server process whose chat engine is at `base_url`."""
    return client_of_server(
        CHAT_BASE_URL=base_url, CHAT_MODEL="scripted", CHAT_CONTEXT_WINDOW="2000", **environment
    )


async def ask(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/api/lightweight-llm/chat", json={"message": "hello"})


async def is_free(client: httpx.AsyncClient) -> bool:
    body = (await client.get("/api/services/status")).json()
    available: bool = body["services"]["chat"]["available"]
    return available


async def until_free(client: httpx.AsyncClient, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not await is_free(client):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def outcomes() -> list[str]:
    return list(Hold.objects.order_by("id").values_list("outcome", flat=True))


async def refuse(call: Call) -> None:
    await call.answer({"error": {"message": "out of memory"}}, status=500)


async def break_off(call: Call) -> None:
    await call.begin()
    await call.token("Once upon a")
    call.reset()


async def stop_short(call: Call) -> None:
    await call.begin()
    await call.token("Once upon a")


async def say_nothing_at_all(call: Call) -> None:
    await call.begin()
    await call.finish({"prompt_tokens": 3, "completion_tokens": 0})


async def babble(call: Call) -> None:
    await call.begin()
    await call.send(b"data: {nonsense\n\n")


async def say_nothing(call: Call) -> None:
    await call.hung_up.wait()


async def stop_answering(call: Call) -> None:
    await call.begin()
    await call.token("Once upon a")
    await call.hung_up.wait()


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (refuse, 502),
        (break_off, 502),
        (stop_short, 502),
        (babble, 502),
        (say_nothing_at_all, 502),
        (say_nothing, 504),
        (stop_answering, 504),
    ],
)
async def test_a_fault_of_the_engine_is_told_and_frees_the_service(script: Script, status: int) -> None:
    async with (
        ScriptedEngineServer({CHAT: script}) as engine,
        site(engine.base_url, CHAT_TIMEOUT="0.5") as client,
    ):
        response = await ask(client)
        assert await is_free(client)
        assert response.status_code == status, response.text
        body = response.json()
        assert body["success"] is False
        assert body["error"].endswith(".")
        assert isinstance(body["details"], str)
        assert not body.get("serviceUnavailable")
        assert await query(outcomes) == ["released"]


async def test_an_absent_engine_is_told_and_frees_the_service() -> None:
    async with site(f"http://127.0.0.1:{free_port()}/v1") as client:
        response = await ask(client)
        assert response.status_code == 502
        assert await is_free(client)


async def test_when_the_client_leaves_the_model_stops_and_the_service_is_free() -> None:
    async with (
        ScriptedEngineServer({CHAT: stop_answering}) as engine,
        site(engine.base_url) as client,
    ):
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/api/lightweight-llm/chat", json={"message": "hello"}, timeout=0.7)
        (call,) = engine.asked(CHAT)
        await asyncio.wait_for(call.hung_up.wait(), 2)
        await until_free(client, 2)
        assert await query(outcomes) == ["released"]


async def test_a_forced_end_reaches_the_caller_in_words() -> None:
    def force() -> bool:
        session_id = Lease.objects.live().get().session_id
        assert session_id is not None
        return mutex.force_release("lightweight-llm", session_id, by="ops", reason="needed")

    async with (
        ScriptedEngineServer({CHAT: stop_answering}) as engine,
        site(engine.base_url, LEASE_TTL="3", LEASE_HEARTBEAT="0.2") as client,
    ):
        asking = asyncio.create_task(ask(client))
        while not engine.asked(CHAT):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert await query(force)
        response = await asyncio.wait_for(asking, 5)
        assert response.status_code == 503
        assert response.json()["error"].startswith("Your session was ended by an administrator.")
        assert response.json()["ended"] == "forced"
        await asyncio.wait_for(engine.asked(CHAT)[0].hung_up.wait(), 2)


async def test_two_servers_share_one_service() -> None:
    """Two real processes; while one answers, the other refuses, and then the turn is its own."""
    go_on = asyncio.Event()

    async def answer_when_told(call: Call) -> None:
        await call.begin()
        await call.token("Hello")
        await go_on.wait()
        await call.finish({"prompt_tokens": 3, "completion_tokens": 1})

    async with (
        ScriptedEngineServer({CHAT: answer_when_told}) as engine,
        site(engine.base_url) as one,
        site(engine.base_url) as two,
    ):
        first = asyncio.create_task(ask(one))
        while not engine.asked(CHAT):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        refused = await ask(two)
        assert (refused.status_code, refused.json()["serviceUnavailable"]) == (503, True)
        assert not await is_free(two)
        assert len(engine.asked(CHAT)) == 1
        go_on.set()
        answered: Any = (await first).json()
        assert (answered["response"], answered["usage"]["total_tokens"]) == ("Hello", 4)
        assert (await ask(two)).status_code == 200


async def test_what_was_said_before_the_engine_broke_off_is_kept_as_incomplete() -> None:
    async with (
        ScriptedEngineServer({CHAT: break_off}) as engine,
        site(engine.base_url) as client,
    ):
        session_id = (await client.post("/api/conversations", json={})).json()["sessionId"]
        body = {"message": "hello", "sessionId": session_id}
        assert (await client.post("/api/lightweight-llm/chat", json=body)).status_code == 502
        kept = (await client.get(f"/api/conversations/{session_id}")).json()["messages"]
        assert [(said["content"], said["incomplete"]) for said in kept] == [
            ("hello", False),
            ("Once upon a", True),
        ]


async def test_a_conversation_is_not_told_of_a_question_without_an_answer() -> None:
    async with (
        ScriptedEngineServer({CHAT: refuse}) as engine,
        site(engine.base_url) as client,
    ):
        session_id = (await client.post("/api/conversations", json={})).json()["sessionId"]
        body = {"message": "hello", "sessionId": session_id}
        assert (await client.post("/api/lightweight-llm/chat", json=body)).status_code == 502
        assert (await client.get(f"/api/conversations/{session_id}")).json()["messages"] == []


async def test_a_server_that_is_stopped_gives_its_lease_back() -> None:
    """SIGTERM in mid-answer: the second of grace passes, then the work is cancelled and released."""
    async with ScriptedEngineServer({CHAT: stop_answering}) as engine:
        async with site(engine.base_url) as client:
            asking = asyncio.create_task(ask(client))
            while not engine.asked(CHAT):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await asyncio.gather(asking, return_exceptions=True)
        assert not await query(Lease.objects.live().exists)
        assert await query(outcomes) == ["released"]


async def test_halves_of_a_character_and_nul_bytes_do_no_harm() -> None:
    async def odd(call: Call) -> None:
        await call.begin()
        for text in ("a\x00b", "\ud83d", "\ude00", "\ud83d"):
            await call.token(text)
        await call.finish({"prompt_tokens": 3, "completion_tokens": 4})

    async with ScriptedEngineServer({CHAT: odd}) as engine, site(engine.base_url) as client:
        session_id = (await client.post("/api/conversations", json={})).json()["sessionId"]
        for more in ({}, {"sessionId": session_id}):
            response = await client.post("/api/lightweight-llm/chat", json={"message": "hello"} | more)
            assert response.status_code == 200, response.text
            assert response.json()["response"] == "ab\U0001f600\ufffd"

"""What is kept of an answer, and how often."""

import asyncio
import threading

import pytest
from pytest_django import Settings

from chat import answering
from chat.answering import Exchange, Question, answer
from chat.engines.base import EngineError
from chat.models import Conversation, Message, Role
from tests.chat.scripted_engine_server import ScriptedEngineServer
from tests.chat.test_faults import CHAT, outcomes, refuse
from tests.chat.test_streams import speak_at_once
from tests.database import query

pytestmark = pytest.mark.usefixtures("leases")


def kept() -> list[tuple[str, bool]]:
    return list(Message.objects.values_list("content", "incomplete"))


async def kept_exchange() -> Conversation:
    """A conversation with one exchange in it."""
    conversation: Conversation = await query(Conversation.objects.create, owner="ann")
    roles = ((Role.USER, "old question"), (Role.ASSISTANT, "old answer"))
    for role, text in roles:
        await query(Message.objects.create, conversation=conversation, role=role, content=text)
    return conversation


async def test_an_exchange_takes_the_place_of_another_which_the_model_does_not_read(
    settings: Settings,
) -> None:
    conversation = await kept_exchange()
    replaced = (await query(Message.objects.earliest, "id")).pk
    async with ScriptedEngineServer({CHAT: speak_at_once}) as engine:
        settings.CHAT_BASE_URL, settings.CHAT_MODEL = engine.base_url, "scripted"
        await answer(Question("hello", conversation=conversation, replaces=replaced), "ann")
        asked = engine.asked(CHAT)[0].body["messages"]
    assert "old" not in str(asked)
    assert await query(kept) == [("hello", False), ("Hello", False)]


async def test_an_exchange_that_comes_to_nothing_replaces_nothing(settings: Settings) -> None:
    conversation = await kept_exchange()
    replaced = (await query(Message.objects.earliest, "id")).pk
    async with ScriptedEngineServer({CHAT: refuse}) as engine:
        settings.CHAT_BASE_URL, settings.CHAT_MODEL = engine.base_url, "scripted"
        with pytest.raises(EngineError):
            await answer(Question("hello", conversation=conversation, replaces=replaced), "ann")
    assert await query(kept) == [("old question", False), ("old answer", False)]


async def test_what_was_taken_back_meanwhile_is_replaced_with_nothing_newer(settings: Settings) -> None:
    conversation = await kept_exchange()
    replaced = (await query(Message.objects.earliest, "id")).pk
    await query(conversation.take_back, replaced)
    await query(Message.objects.create, conversation=conversation, role=Role.USER, content="newer")
    async with ScriptedEngineServer({CHAT: speak_at_once}) as engine:
        settings.CHAT_BASE_URL, settings.CHAT_MODEL = engine.base_url, "scripted"
        await answer(Question("hello", conversation=conversation, replaces=replaced), "ann")
    assert await query(kept) == [("newer", False), ("hello", False), ("Hello", False)]


async def test_who_goes_away_during_the_saving_has_the_exchange_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    append = answering._append

    def slowly(exchange: Exchange, *, incomplete: bool = False) -> bool:
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(10)
        return append(exchange, incomplete=incomplete)

    monkeypatch.setattr(answering, "_append", slowly)
    conversation = await query(Conversation.objects.create, owner="ann")
    async with ScriptedEngineServer({CHAT: speak_at_once}) as engine:
        settings.CHAT_BASE_URL, settings.CHAT_MODEL = engine.base_url, "scripted"
        asking = asyncio.create_task(answer(Question("hello", conversation=conversation), "ann"))
        await asyncio.wait_for(begun.wait(), 10)
        asking.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert await query(kept) == [("hello", False), ("Hello", False)]
    assert await query(outcomes) == ["released"]

"""The chat engine of this process."""

import threading
from functools import cache

from django.conf import settings

from chat.engines.base import Engine
from chat.engines.in_process import InProcessEngine

_building = threading.Lock()


def get_engine() -> Engine:
    """The engine that the settings name, the same object for the whole process."""
    with _building:
        return _build(
            settings.CHAT_BASE_URL,
            settings.CHAT_MODEL,
            settings.CHAT_API_KEY,
            settings.CHAT_CONTEXT_WINDOW,
            settings.CHAT_TIMEOUT,
        )


@cache
def _build(base_url: str, model: str, api_key: str, context_window: int | None, timeout: float) -> Engine:
    if base_url:
        # Only here: aiohttp takes 0.2 s to import.
        from chat.engines.openai_compatible import OpenAICompatibleEngine  # noqa: PLC0415

        return OpenAICompatibleEngine(
            base_url, model=model, api_key=api_key, context_window=context_window, timeout=timeout
        )
    return InProcessEngine(model, context_window=context_window, timeout=timeout)

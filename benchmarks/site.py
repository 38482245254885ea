"""The project's own site with an engine that answers at once, and beside it what its speed is compared with.

With BENCHMARK_WITHOUT_LEASE the chat takes no lease, with BENCHMARK_REAL_ENGINE the default model answers;
everything else is the same.
"""

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from config.asgi import application  # sets Django up, which comes before what follows

# isort: split
from django.http import HttpRequest, JsonResponse
from django.urls import path

from chat import answering
from chat.engines import get_engine
from chat.engines.base import ChatMessage, Engine, Usage
from config import urls


class InstantEngine(Engine):
    """Says one word at once."""

    async def generate(
        self, messages: Sequence[ChatMessage], *, max_tokens: int, temperature: float
    ) -> AsyncGenerator[str | Usage, None]:
        yield "Hello."
        yield Usage(input_tokens=1, output_tokens=1)


class NoLease:
    def activity(self) -> None: ...


@asynccontextmanager
async def no_lease(*args: Any) -> Any:
    yield NoLease()


async def bare(request: HttpRequest) -> JsonResponse:
    """What answering costs at the least here: Django's middleware and a constant."""
    return JsonResponse({"success": True})


async def engine(request: HttpRequest) -> JsonResponse:
    """Where the engine itself can be asked."""
    loaded = await get_engine()._loaded()  # type: ignore[attr-defined]
    return JsonResponse({"url": loaded._base_url, "key": loaded._api_key})


if not os.environ.get("BENCHMARK_REAL_ENGINE"):
    ENGINE = InstantEngine()
    answering.get_engine = lambda: ENGINE  # type: ignore[attr-defined]
if os.environ.get("BENCHMARK_WITHOUT_LEASE"):
    answering.ahold = no_lease  # type: ignore[assignment,attr-defined]
__all__ = ["application"]
urls.urlpatterns[:0] = [path("bare", bare), path("engine", engine)]

"""The embedder of this process, as the settings have it."""

import threading
from functools import cache

from django.conf import settings

from documents.embedders.base import Embedder

_making = threading.Lock()


def get_embedder() -> Embedder:
    """The one embedder that the present settings call for; made at first use."""
    with _making:
        if not settings.EMBEDDING_BASE_URL:
            return _in_process()
        return _openai_compatible(
            settings.EMBEDDING_BASE_URL,
            settings.EMBEDDING_MODEL,
            settings.EMBEDDING_API_KEY,
            settings.EMBEDDING_TIMEOUT,
        )


@cache
def _in_process() -> Embedder:
    # Only here: ONNX Runtime takes 0.2 s and 60 MB to import.
    from documents.embedders.in_process import InProcessEmbedder  # noqa: PLC0415

    return InProcessEmbedder()


@cache
def _openai_compatible(base_url: str, model: str, api_key: str, timeout: float) -> Embedder:
    # Only here: aiohttp takes 0.2 s to import.
    from documents.embedders.openai_compatible import OpenAICompatibleEmbedder  # noqa: PLC0415

    return OpenAICompatibleEmbedder(base_url, model, api_key, timeout)

"""Wrong settings of the engines for documents, said before something fails by them."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 - Django's own name


@register
def check_embedding(**kwargs: Any) -> list[CheckMessage]:
    """A server has many models and must be told which; the one in-process cannot be chosen."""
    if settings.EMBEDDING_BASE_URL and not settings.EMBEDDING_MODEL:
        return [
            Error(
                "EMBEDDING_BASE_URL is set without EMBEDDING_MODEL.",
                hint="Set EMBEDDING_MODEL to the model's name on that server.",
                id="documents.E001",
            )
        ]
    if settings.EMBEDDING_MODEL and not settings.EMBEDDING_BASE_URL:
        return [
            Warning(
                "EMBEDDING_MODEL is set without EMBEDDING_BASE_URL and has no effect.",
                hint="Set EMBEDDING_BASE_URL too, or leave both out for the model in-process.",
                id="documents.W002",
            )
        ]
    return []


@register
def check_reranker(**kwargs: Any) -> list[CheckMessage]:
    """Nothing orders anew what is found unless a server is named."""
    if settings.RERANK_MODEL and not settings.RERANK_BASE_URL:
        return [
            Warning(
                "RERANK_MODEL is set without RERANK_BASE_URL and has no effect.",
                hint="Set RERANK_BASE_URL to the address of a rerank API, or leave both out.",
                id="documents.W003",
            )
        ]
    return []

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
    hint = "Set EMBEDDING_BASE_URL too, or leave both out for the model in-process."
    return _model_without_server("EMBEDDING", hint, "W002")


@register
def check_reranker(**kwargs: Any) -> list[CheckMessage]:
    """Nothing orders anew what is found unless a server is named."""
    hint = "Set RERANK_BASE_URL to the address of a rerank API, or leave both out."
    return _model_without_server("RERANK", hint, "W003")


def _model_without_server(name: str, hint: str, number: str) -> list[CheckMessage]:
    if not getattr(settings, f"{name}_MODEL") or getattr(settings, f"{name}_BASE_URL"):
        return []
    says = f"{name}_MODEL is set without {name}_BASE_URL and has no effect."
    return [Warning(says, hint=hint, id=f"documents.{number}")]

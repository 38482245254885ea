"""Every route of the site, as an address that can be asked for."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.urls import URLPattern, URLResolver, get_resolver, reverse

ID = str(UUID(int=7))
SAMPLES = {
    "kind": "md",
    "message_id": 7,
    "service_id": "lightweight-llm",
    "ticket_id": 7,
    "object_id": "7",
    "content_type_id": 7,
    "app_label": "leases",
    "url": "x",
}


def addresses(**values: Any) -> list[tuple[str, str]]:
    """The name and one address of every route; ids are of nothing, unless they are given."""
    return [
        (pattern.name or "", address(pattern, namespace, values))
        for pattern, namespace in patterns()
        if pattern.name
    ]


def parameters() -> set[tuple[str, str]]:
    """The name of each route that takes something in its path, with what it takes."""
    return {
        (f"{namespace}{pattern.name or pattern.pattern}", parameter)
        for pattern, namespace in patterns()
        for parameter in _parameters(pattern)
    }


def address(pattern: URLPattern, namespace: str, values: dict[str, Any]) -> str:
    known = SAMPLES | values
    return reverse(
        f"{namespace}{pattern.name}", kwargs={name: known.get(name, ID) for name in _parameters(pattern)}
    )


def patterns(resolver: URLResolver | None = None, namespace: str = "") -> Iterator[tuple[URLPattern, str]]:
    for entry in (resolver or get_resolver()).url_patterns:
        if isinstance(entry, URLPattern):
            yield entry, namespace
        else:
            yield from patterns(entry, f"{namespace}{entry.namespace}:" if entry.namespace else namespace)


def _parameters(pattern: URLPattern) -> list[str]:
    return list(pattern.pattern.regex.groupindex)

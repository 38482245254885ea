"""Answers held against the description of the API."""

import json
import re
from copy import deepcopy
from typing import Any

from django.urls import resolve
from jsonschema import Draft202012Validator, FormatChecker

from config.schema import openapi

FILLED = {"session_id": "x", "message_id": "1", "document_id": "x", "service_id": "x", "ticket_id": "1"}


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of each operation."""
    return [
        (path, method.upper(), operation)
        for path, item in openapi()["paths"].items()
        for method, operation in item.items()
    ]


def route_of(path: str) -> str:
    """The regular expression of an address, given a path or the description's template of one."""
    return resolve(path.format_map(FILLED)).route


def operation(method: str, path: str) -> dict[str, Any]:
    """The description of the operation that a request asks for."""
    (found,) = (
        described
        for template, its_method, described in operations()
        if its_method == method and route_of(template) == resolve(path).route
    )
    return found


def strict_components() -> dict[str, Any]:
    """The described shapes, without room for fields that they do not name."""
    components: dict[str, Any] = deepcopy(openapi()["components"])
    for shape in components["schemas"].values():
        if "properties" in shape:
            shape["additionalProperties"] = False
    return components


def conform(value: Any, shape: dict[str, Any]) -> None:
    """Assert that a value has a described shape, and nothing besides."""
    whole = shape | {"components": strict_components()}
    errors = [
        f"{error.json_path}: {error.message}"
        for error in Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(value)
    ]
    assert errors == []


def events_of(text: str) -> list[tuple[str, Any]]:
    """The events of a whole stream with their data."""
    found = re.findall(r"^event: (.*)\ndata: (.*)$", text, re.MULTILINE)
    return [(name, json.loads(data)) for name, data in found]


def check(method: str, path: str, status: int, headers: Any, text: str) -> None:
    """Assert that an answer, a stream too, is one of those described for its request."""
    responses = operation(method, path)["responses"]
    assert str(status) in responses, (
        f"{method} {path} answered {status}, which is not described: {text[:300]}"
    )
    described = responses[str(status)]
    for name, header in described.get("headers", {}).items():
        assert name in headers or not header.get("required"), f"{method} {path}: {status} without {name}"
    media_type = headers["Content-Type"].split(";")[0]
    shape = described["content"][media_type]["schema"]
    if media_type == "application/json":
        conform(json.loads(text), shape)
        return
    conform_stream(text, shape)


def conform_stream(text: str, shape: dict[str, Any]) -> None:
    """Assert that a whole stream has only described events, and one `done` or `error`, the last."""
    events = events_of(text)
    assert [name for name, _ in events if name in ("done", "error")] == [events[-1][0]]
    kinds = {
        kind["properties"]["event"]["const"]: kind["properties"]["data"]["contentSchema"]
        for kind in openapi()["components"]["schemas"][shape["$ref"].rpartition("/")[2]]["oneOf"]
    }
    for name, data in events:
        conform(data, kinds[name])

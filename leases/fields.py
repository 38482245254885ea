"""What the serializers of requests have in common: sentences for what is wrong, bounds before work."""

from datetime import datetime
from functools import cache
from typing import Any
from unicodedata import normalize

from asgiref.sync import sync_to_async
from rest_framework import serializers
from rest_framework.request import Request


def milliseconds(moment: datetime) -> int:
    """Since the Unix epoch, as all times of the API."""
    return round(moment.timestamp() * 1000)


def sentences(sentence: str, **others: str) -> dict[str, Any]:
    """One sentence for every way in which a value can be missing or wrong, and others for the rest."""
    kinds = ("required", "blank", "null", "invalid", "empty", "not_a_list", "min_value", "max_value")
    return dict.fromkeys((*kinds, "max_string_length", "invalid_choice"), sentence) | others


class RequestSerializer(serializers.Serializer[Any]):
    """A request's body or query."""

    default_error_messages = dict.fromkeys(
        ("invalid", "null"), "Please send one JSON object with named fields."
    )


class Text(serializers.CharField):
    """Text that people write, with each letter and its accents as one character (NFC): some systems send
    them as several, and neither people nor a search would see why the same word is another."""

    def to_internal_value(self, data: Any) -> str:
        return normalize("NFC", super().to_internal_value(data))


class BoundedList(serializers.ListField):
    """A list whose length is looked at before its entries are."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


AT_ONCE = 16_384
"""Bytes of a body that is read on the event loop; more of it takes its time, in a thread."""


async def valid(shape: type[RequestSerializer], request: Request) -> dict[str, Any]:
    """The values of the request's body. Raises ValidationError, and ParseError for what is no JSON."""
    length = request.META.get("CONTENT_LENGTH", "")
    if length.isdigit() and int(length) <= AT_ONCE:
        return valid_now(shape, request.data)
    return await sync_to_async(lambda: valid_now(shape, request.data))()


def valid_now(shape: type[RequestSerializer], data: Any) -> dict[str, Any]:
    """The values that the data has, of this shape. Raises ValidationError."""
    values: dict[str, Any] = _reader(shape).run_validation(data)
    return values


@cache
def _reader(shape: type[RequestSerializer]) -> RequestSerializer:
    """One for all requests: DRF copies the fields for each new one, a fifth of what a small request takes."""
    reader = shape()
    reader.fields  # noqa: B018 - makes them, before two threads could
    return reader

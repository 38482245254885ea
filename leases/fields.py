"""What the serializers of requests have in common: sentences for what is wrong, bounds before work."""

from datetime import datetime
from typing import Any

from asgiref.sync import sync_to_async
from rest_framework import serializers


def milliseconds(moment: datetime) -> int:
    """Since the Unix epoch, as all times of the API."""
    return round(moment.timestamp() * 1000)


def sentences(sentence: str, **others: str) -> dict[str, Any]:
    """One sentence for every way in which a value can be missing or wrong, and others for the rest."""
    kinds = ("required", "blank", "null", "invalid", "empty", "not_a_list", "min_value", "max_value")
    return dict.fromkeys((*kinds, "max_string_length", "invalid_choice"), sentence) | others


class RequestSerializer(serializers.Serializer[Any]):
    """A request's body or query."""

    default_error_messages = {"invalid": "Please send one JSON object with named fields."}


class BoundedList(serializers.ListField):
    """A list whose length is looked at before its entries are."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


async def valid(serializer: serializers.BaseSerializer[Any]) -> dict[str, Any]:
    """The validated values. Raises ValidationError. In a thread: a large body takes its time."""
    return await sync_to_async(valid_now)(serializer)


def valid_now(serializer: serializers.BaseSerializer[Any]) -> dict[str, Any]:
    """The validated values. Raises ValidationError."""
    serializer.is_valid(raise_exception=True)
    values: dict[str, Any] = serializer.validated_data
    return values

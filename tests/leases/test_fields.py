"""What a request says: read by one reader a shape for all requests, large bodies off the event loop."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from rest_framework import serializers
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from leases.fields import AT_ONCE, BoundedList, RequestSerializer, valid, valid_now


class Order(RequestSerializer):
    names = BoundedList(child=serializers.CharField(), max_length=3)
    count = serializers.IntegerField(default=1)


class Where(RequestSerializer):
    """Tells in which thread it is read."""

    text = serializers.CharField(trim_whitespace=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {**attrs, "thread": threading.current_thread()}


def test_requests_that_are_read_at_once_get_their_own_values() -> None:
    together = threading.Barrier(8)

    def read(number: int) -> list[tuple[Any, ...]]:
        together.wait()
        got = []
        for turn in range(200):
            sent: dict[str, Any] = {"names": [f"{number}", f"{turn}"]} | ({"count": turn} if turn % 2 else {})
            read = valid_now(Order, sent)
            got.append((read["names"], read["count"]))
        return got

    with ThreadPoolExecutor(8) as pool:
        for number, got in enumerate(pool.map(read, range(8))):
            assert got == [([f"{number}", f"{turn}"], turn if turn % 2 else 1) for turn in range(200)]


@pytest.mark.parametrize("body", [None, [], "text", 7])
def test_what_is_no_object_is_answered_with_what_to_send(body: object) -> None:
    with pytest.raises(serializers.ValidationError, match="Please send one JSON object"):
        valid_now(Order, body)


def test_an_error_is_of_its_own_request() -> None:
    with pytest.raises(serializers.ValidationError):
        valid_now(Order, {"names": ["a"] * 4})
    assert valid_now(Order, {"names": ["a"]}) == {"names": ["a"], "count": 1}


def sent(body: dict[str, str]) -> Request:
    posted = APIRequestFactory().post("/", json.dumps(body), content_type="application/json")
    return Request(posted, parsers=[JSONParser()])


@pytest.mark.parametrize(
    ("length", "here"), [(AT_ONCE - 20, True), (AT_ONCE, False)], ids=["a small body", "a large one"]
)
async def test_only_a_large_body_goes_to_a_thread(length: int, here: bool) -> None:
    read = await valid(Where, sent({"text": "x" * length}))
    assert len(read["text"]) == length
    assert (read["thread"] is threading.current_thread()) == here

"""The checkers find what they look for: a check that cannot fail proves nothing."""

from tests.faults.checkers import exclusion, grants, order
from tests.faults.engine import Call
from tests.faults.history import Operation


def granted(process: int, token: int, at: float, owner: str = "x", name: str = "claim") -> Operation:
    return Operation(process, name, at, at + 0.1, ok=True, owner=owner, token=token)


def enqueued(process: int, ticket: int, at: float, owner: str = "x") -> Operation:
    return Operation(process, "enqueue", at, at + 0.1, ok=True, owner=owner, ticket=ticket)


def test_exclusion() -> None:
    assert exclusion([Call(1, 0, 1), Call(2, 1, 2), Call(4, 2, 3)]) == []
    assert len(exclusion([Call(1, 0, 1.5), Call(2, 1, 2)])) == 1
    assert len(exclusion([Call(2, 0, 1), Call(1, 1, 2)])) == 1
    assert len(exclusion([Call(1, 0, None), Call(2, 1, 2)])) == 1
    assert len(exclusion([Call(1, 0, 9), Call(2, 1, 2), Call(3, 3, 4)])) == 2


def test_grants() -> None:
    assert grants([granted(1, 1, 0), granted(2, 2, 1), granted(1, 4, 2)]) == []
    assert grants([granted(1, 1, 0), granted(1, 1, 1)]) == []
    assert len(grants([granted(1, 1, 0), granted(2, 1, 1)])) == 1
    assert len(grants([granted(1, 2, 0), granted(2, 1, 1)])) == 1
    assert len(grants([granted(1, 1, 0, owner="")])) == 1


def test_order() -> None:
    queue = [enqueued(1, 1, 0), enqueued(2, 2, 1), enqueued(3, 3, 2)]
    assert order([*queue, granted(1, 1, 5), granted(2, 2, 6), granted(3, 3, 7)]) == []
    assert order([*queue, granted(2, 1, 5), granted(3, 2, 6)]) == []  # the first left
    assert len(order([*queue, granted(2, 1, 5), granted(1, 2, 6), granted(3, 3, 7)])) == 1

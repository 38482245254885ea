"""Three checks of what really happened. Each returns its violations in words; none must be there."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from tests.faults.engine import Call
from tests.faults.history import Operation, named

GRANTS = ("try_acquire", "claim")


def exclusion(calls: Sequence[Call]) -> list[str]:
    """The engine's intervals never overlap, and the tokens that it accepts never go down."""
    found = []
    latest = float("-inf")
    ordered = sorted(calls, key=lambda call: call.started)
    for earlier, later in pairwise(ordered):
        latest = max(latest, earlier.ended if earlier.ended is not None else float("inf"))
        if later.started < latest:
            found.append(
                f"token {later.token} began {latest - later.started:.4f} s before its predecessor ended"
            )
        if later.token < earlier.token:
            found.append(f"token {later.token} was accepted after {earlier.token}")
    return found


def grants(history: Iterable[Operation]) -> list[str]:
    """Tokens are unique, increase in the order of the grants, and every grant has an owner.

    Taking up the same grant twice, because the first answer was lost, is one grant. Of two grants, the one
    whose call returned before the other's began must have the lower token.
    """
    granted = [operation for operation in named(history, *GRANTS) if operation.ok]
    found = [
        f"a grant of token {operation.token} has no owner" for operation in granted if not operation.owner
    ]
    owners: dict[int | None, tuple[int, str]] = {}
    for operation in granted:
        holder = owners.setdefault(operation.token, (operation.process, operation.owner))
        if holder != (operation.process, operation.owner):
            found.append(f"token {operation.token} was granted to {holder[1]} and to {operation.owner}")
    by_token = sorted(granted, key=lambda operation: operation.token or 0)
    highest_start = float("-inf")
    for operation in by_token:
        if operation.returned is not None and operation.returned < highest_start:
            found.append(f"token {operation.token} was granted before a lower one")
        highest_start = max(highest_start, operation.invoked)
    return found


def order(history: Sequence[Operation]) -> list[str]:
    """If a's enqueue returned before b's began, a is served first, unless it left, died or came back.

    An owner that enqueues again for a new turn has a new ticket; the ticket is what is served. A ticket
    counts as served by the first grant of its process and owner after it was enqueued.
    """
    enqueued: dict[int, Operation] = {}
    for operation in named(history, "enqueue"):
        if operation.ok and operation.ticket is not None:
            enqueued.setdefault(operation.ticket, operation)
    claims = [operation for operation in named(history, "claim") if operation.ok]
    served: list[tuple[Operation, Operation]] = []
    for ticket in enqueued.values():
        claim = next(
            (
                claim
                for claim in claims
                if (claim.process, claim.owner) == (ticket.process, ticket.owner)
                and claim.invoked > ticket.invoked
            ),
            None,
        )
        if claim is not None:
            served.append((ticket, claim))
    served.sort(key=lambda pair: pair[1].token or 0)
    found = []
    latest_start = float("-inf")
    for ticket, claim in served:
        if ticket.returned is not None and ticket.returned < latest_start:
            found.append(f"ticket {ticket.ticket} of {ticket.owner} was overtaken (token {claim.token})")
        latest_start = max(latest_start, ticket.invoked)
    return found

"""A rush on a busy service: who comes while it is busy is refused by one look, which all who come then share.

A refusal by `mutex.acquire` is a statement of its own for each caller. Where somebody has just been refused
the next one would most likely be, too; so the state is asked first, once for all who ask at the same time.
"""

from math import inf
from time import monotonic

from leases import refusals
from leases.database import Together
from leases.status import states

SECONDS = 1.0
"""How long one refusal makes others likely. Looks do not count: one caller a second tries in earnest, which
also sweeps what has lapsed."""

_states = Together(states)
_refused_at: dict[str, float] = {}


def began(service_id: str) -> None:
    """Somebody who tried in earnest was refused."""
    _refused_at[service_id] = monotonic()


async def refuse(service_id: str, owner: str) -> None:
    """Raise ServiceBusy if there is a rush and the service cannot be had at a moment after this call; if it
    might be had, or there is no rush, only trying will tell."""
    if monotonic() - _refused_at.get(service_id, -inf) > SECONDS:
        return
    for state in await _states.ask():
        if state.id == service_id and not state.free:
            raise refusals.busy(state, owner)

"""How one caller wants its turn with a service."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Tell = Callable[[str, dict[str, Any]], object]


def _nobody(event: str, data: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Turn:
    """`wait` is how many seconds the caller would queue, None for not at all.

    `tell` is called with each event and its data, from the event loop: `queued` at each change of the
    place, `started` with what stands in `about`, and what the work itself has to say.
    """

    wait: float | None = None
    tell: Tell = _nobody
    about: Mapping[str, Any] = field(default_factory=dict)


AT_ONCE = Turn()

"""Why a caller cannot have a service now, in whole sentences that say what to do next."""

from leases.exceptions import ServiceBusy
from leases.status import State

RETRY_AFTER = 30
"""Seconds, where nothing is known of how long people use the service."""
RETRY_AFTER_MOST = 60


def busy(state: State, owner: str) -> ServiceBusy:
    """Somebody holds the service or waits for it, or it is disabled; in the service's own words."""
    if not state.enabled:
        return _refusal(state, "disabled", state.disabled_message)
    return _refusal(state, "busy", state.own_busy_message if state.owner == owner else state.busy_message)


def queue_full(state: State) -> ServiceBusy:
    """As many as may wait do so already."""
    return _refusal(
        state,
        "queue_full",
        f"So many people are waiting for the {state.name.lower()} that its queue is full. "
        "Please try again in a few minutes.",
    )


def wait_timeout(state: State, seconds: float) -> ServiceBusy:
    """The caller was not willing to wait any longer."""
    return _refusal(
        state,
        "wait_timeout",
        f"The {state.name.lower()} was still busy after {seconds:.10g} seconds of waiting. "
        "Please try again in a minute or two.",
    )


def superseded(state: State) -> ServiceBusy:
    """The same owner's next request waits in the caller's place."""
    return _refusal(
        state,
        "busy",
        f"You are waiting for the {state.name.lower()} in another window or program now, which has kept "
        "your place. Please go on there.",
    )


def removed(state: State) -> ServiceBusy:
    """An operator took the caller out of the queue."""
    return _refusal(
        state,
        "busy",
        f"An operator has taken you out of the queue for the {state.name.lower()}. Please try again later, "
        "or ask them why.",
    )


def stopping(state: State) -> ServiceBusy:
    """The server process is about to end; the place is kept."""
    refusal = _refusal(
        state,
        "busy",
        "The server is being restarted. Your place in the queue is kept: please try again in a few seconds.",
    )
    refusal.retry_after = 2
    return refusal


def _refusal(state: State, reason: str, message: str) -> ServiceBusy:
    wait = state.estimated_wait(state.queue_length + 1)
    return ServiceBusy(
        message,
        service=state.id,
        reason=reason,
        retry_after=RETRY_AFTER if wait is None else min(max(wait, 1), RETRY_AFTER_MOST),
        queue_length=state.queue_length,
    )

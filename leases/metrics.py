"""The figures of the services for Prometheus: what this process has counted, and what the database knows.

Those of the database are the same at every process and host: aggregate them with max, not with sum.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import BooleanField, Case, Value, When
from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from leases.models import Lease, Outcome
from leases.status import State, states

REFUSALS = Counter(
    "leasehold_refusals", "Requests that did not get the service, by reason.", ["service", "reason"]
)
WAIT_SECONDS = Histogram(
    "leasehold_wait_seconds",
    "Seconds from a request to its grant, of those that got the service.",
    ["service"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 15, 30, 60, 180, 600, 1800, 3600),
)
ENGINE_ERRORS = Counter(
    "leasehold_engine_errors", "Failures of the engine behind a service, by kind.", ["service", "kind"]
)

FROM_DATABASE = "From the database, the same at every process: aggregate with max."


@dataclass(frozen=True)
class Tallied:
    """All sessions of one service: by outcome those that ended, and whether one goes on."""

    sessions: dict[str, int]
    held_seconds: float
    waited_seconds: float
    running: bool

    @property
    def acquisitions(self) -> int:
        """Sessions that were taken up, ever."""
        ended = sum(count for outcome, count in self.sessions.items() if outcome != Outcome.UNCLAIMED)
        return ended + self.running


@dataclass(frozen=True)
class Figures:
    """What the database knows at one moment."""

    services: list[State]
    tallied: dict[str, Tallied]


def figures() -> Figures:
    """Ask the database, in two queries."""
    return Figures(states(), _tallied())


def _tallied() -> dict[str, Tallied]:
    """One query: with two, a session that ends in between would be counted twice or not at all, and a
    counter that falls back is taken for a new one."""
    running = Case(
        When(session_id__isnull=False, offered_to__isnull=True, then=True),
        default=Value(False),
        output_field=BooleanField(),
    )
    tally = "service__tally__"
    rows: Iterable[tuple[Any, ...]] = Lease.objects.annotate(running=running).values_list(
        *("service_id", "running"),
        *(tally + column for column in ("outcome", "sessions", "held_seconds", "waited_seconds")),
    )
    by_service: dict[str, Tallied] = {}
    for service_id, is_running, outcome, sessions, held, waited in rows:
        known = by_service.get(service_id, Tallied({}, 0.0, 0.0, bool(is_running)))
        by_service[service_id] = Tallied(
            known.sessions | ({outcome: sessions} if outcome else {}),
            known.held_seconds + (held or 0.0),
            known.waited_seconds + (waited or 0.0),
            known.running,
        )
    return by_service


def families(known: Figures) -> Iterator[Metric]:
    """The figures as Prometheus has them."""
    yield _sessions(known)
    for name, meaning, value in COUNTERS:
        counter = CounterMetricFamily(name, f"{meaning} {FROM_DATABASE}", labels=["service"])
        for service_id, tallied in known.tallied.items():
            counter.add_metric([service_id], value(tallied))
        yield counter
    for name, meaning, of_state in GAUGES:
        gauge = GaugeMetricFamily(name, f"{meaning} {FROM_DATABASE}", labels=["service"])
        for service in known.services:
            gauge.add_metric([service.id], of_state(service))
        yield gauge


def _sessions(known: Figures) -> Metric:
    sessions = CounterMetricFamily(
        "leasehold_sessions",
        f"Ended sessions, by how they ended. {FROM_DATABASE}",
        labels=["service", "outcome"],
    )
    for service_id, tallied in known.tallied.items():
        for outcome in Outcome.values:
            sessions.add_metric([service_id, outcome], tallied.sessions.get(outcome, 0))
    return sessions


def _held_for(service: State) -> float:
    return 0.0 if service.started_at is None else (service.now - service.started_at) / 1000


COUNTERS: tuple[tuple[str, str, Callable[[Tallied], float]], ...] = (
    ("leasehold_acquisitions", "Sessions that were taken up.", lambda tallied: tallied.acquisitions),
    ("leasehold_held_seconds", "Seconds of ended sessions.", lambda tallied: tallied.held_seconds),
    (
        "leasehold_waited_seconds",
        "Seconds in the queue of ended sessions.",
        lambda tallied: tallied.waited_seconds,
    ),
    (
        "leasehold_expiries",
        "Sessions that came to a deadline: outcomes expired and lost.",
        lambda tallied: tallied.sessions.get(Outcome.EXPIRED, 0) + tallied.sessions.get(Outcome.LOST, 0),
    ),
    (
        "leasehold_forced_releases",
        "Sessions that an operator ended: outcome forced.",
        lambda tallied: tallied.sessions.get(Outcome.FORCED, 0),
    ),
)
GAUGES: tuple[tuple[str, str, Callable[[State], float]], ...] = (
    (
        "leasehold_held",
        "1 while somebody holds the service.",
        lambda service: float(bool(service.session_id)),
    ),
    ("leasehold_held_for_seconds", "Seconds that the present session has lasted, or 0.", _held_for),
    ("leasehold_queue_length", "Callers in the queue.", lambda service: service.queue_length),
    (
        "leasehold_enabled",
        "1 unless an operator switched the service off.",
        lambda service: float(service.enabled),
    ),
)

"""/metrics for Prometheus, and what is counted of every request."""

from collections.abc import Iterable, Iterator

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from config.monitoring import asked
from leases.metrics import Figures, families, figures

REQUESTS = Counter(
    "leasehold_http_requests", "Requests answered, by route and status.", ["method", "route", "status"]
)
REQUEST_SECONDS = Histogram(
    "leasehold_http_request_duration_seconds",
    "Seconds from a request to the last byte of its answer: streams last as long as they are told.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
disable_created_metrics()  # type: ignore[no-untyped-call]


def count_request(method: str, route: str, status: int, seconds: float) -> None:
    REQUESTS.labels(method, route, str(status)).inc()
    REQUEST_SECONDS.labels(method, route).observe(seconds)


@login_not_required
@never_cache
@require_safe
async def metrics(request: HttpRequest) -> HttpResponse:
    """GET: all figures, for the bearer of METRICS_TOKEN; where there is none, for the staff, and with DEBUG
    for everybody."""
    if settings.METRICS_TOKEN:
        brought = request.headers.get("Authorization", "")
        if not constant_time_compare(brought, f"Bearer {settings.METRICS_TOKEN}"):
            return HttpResponse(
                "Please send METRICS_TOKEN: Authorization: Bearer …\n",
                status=401,
                content_type="text/plain; charset=utf-8",
                headers={"WWW-Authenticate": "Bearer"},
            )
    elif not settings.DEBUG and not (await request.auser()).is_staff:
        raise Http404
    try:
        known = await asked(figures)
    except (DatabaseError, TimeoutError):
        known = None
    body = await sync_to_async(_exposition, thread_sensitive=False)(known)
    return HttpResponse(body, content_type=CONTENT_TYPE_LATEST)


def _exposition(known: Figures | None) -> bytes:
    own = CollectorRegistry()
    own.register(_OfDatabase(known))
    if settings.METRICS_DIR:
        MultiProcessCollector(own, settings.METRICS_DIR)  # type: ignore[no-untyped-call]
        return generate_latest(own)
    return generate_latest(REGISTRY) + generate_latest(own)


class _OfDatabase(Collector):
    """The figures of the database, if it answered in time."""

    def __init__(self, known: Figures | None) -> None:
        self._known = known

    def collect(self) -> Iterator[Metric]:
        up = "1 if the database answered this scrape; without it, the figures that it keeps are missing."
        yield GaugeMetricFamily("leasehold_database_up", up, value=float(self._known is not None))
        if self._known is not None:
            yield from families(self._known)

    def describe(self) -> Iterable[Metric]:
        return []

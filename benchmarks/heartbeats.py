"""The heartbeats that are compared. `django.setup()` comes before the import."""

from collections.abc import Callable
from time import monotonic

from benchmarks.locks import TTL, plain_connection
from leases import mutex
from leases.models import Lease, Service

PLAIN = """UPDATE leases_lease
    SET last_activity_at = statement_timestamp(),
        expires_at = statement_timestamp() + make_interval(secs => %(ttl)s)
    WHERE service_id = %(service_id)s AND session_id = %(session_id)s"""


def timed(name: str, leases: int, count: int) -> list[float]:
    """Hold so many leases, each of its own service; seconds for each of `count` heartbeats."""
    grants = [mutex.acquire(service_id, "caller") for service_id in services(leases)]
    beat = BEATS[name](grants)
    took = []
    for _ in range(count):
        begun = monotonic()
        beat()
        took.append(monotonic() - begun)
    for grant in grants:
        assert mutex.release(grant), "a lease went while it was renewed"
    return took


def services(number: int) -> list[str]:
    ids = [f"benchmark-{each}" for each in range(number)]
    for service_id in ids:
        service, _ = Service.objects.get_or_create(id=service_id, defaults={"status_key": service_id})
        Lease.objects.get_or_create(service=service)
    return ids


def renewing(grants: list[mutex.Grant]) -> Callable[[], object]:
    return lambda: mutex.renew(grants[0])


def renewing_all(grants: list[mutex.Grant]) -> Callable[[], object]:
    return lambda: mutex.renew_all(dict.fromkeys(grants, 0.0))


def updating(grants: list[mutex.Grant]) -> Callable[[], object]:
    connection = plain_connection()
    values = {"ttl": TTL, "service_id": grants[0].service_id, "session_id": grants[0].session_id}
    return lambda: connection.execute(PLAIN, values, prepare=True)


BEATS = {"renew": renewing, "renew_all": renewing_all, "raw psycopg, one UPDATE": updating}

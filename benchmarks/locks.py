"""The locks that are compared, each with one pair of verbs. `django.setup()` comes before the import.

Only the lease survives its holder, keeps a queue and a history, and fences late writers; what each of the
others does without is said in its line.
"""

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol
from uuid import uuid4

import psycopg
from django.conf import settings
from django.db.models import F, Q
from django.db.models.functions import Now

from leases import mutex
from leases.holding import ahold, hold
from leases.models import Lease
from leases.statements import STATEMENTS
from leases.turn import Turn

SERVICE = "lightweight-llm"
TTL = 30
PATIENCE = 600.0
"""Seconds for which a caller waits, which none should need."""


class Lock(Protocol):
    """A lock in one caller's hands.

    `tries` counts the attempts of callers that had to wait, once they were woken or had slept, and one for
    those who did not have to.
    """

    @property
    def tries(self) -> int: ...
    def acquire(self) -> None: ...
    def release(self) -> None: ...


class WaitingLock(Protocol):
    """The same for one task among many of a process."""

    @property
    def tries(self) -> int: ...
    async def acquire(self) -> None: ...
    async def release(self) -> None: ...
    async def open(self) -> None: ...
    async def close(self) -> None: ...


class Leasehold:
    """hold(): the queue, the heartbeat and the release, as programs use it."""

    def __init__(self) -> None:
        self.tries = 0
        self._owner = f"caller:{uuid4().hex}"

    def acquire(self) -> None:
        before = _claims.of(self._owner)
        self._holding = hold(SERVICE, self._owner, wait=PATIENCE)
        self._holding.__enter__()
        self.tries += max(_claims.of(self._owner) - before, 1)

    def release(self) -> None:
        self._holding.__exit__(None, None, None)


class Verbs:
    """The two verbs of the mutex, without the heartbeat that hold() adds."""

    tries = 0

    def acquire(self) -> None:
        grant = mutex.try_acquire(SERVICE, "caller")
        assert grant is not None
        self._grant = grant

    def release(self) -> None:
        assert mutex.release(self._grant)


class RawStatements:
    """The floor: the same two statements, prepared, over psycopg alone."""

    tries = 0

    def __init__(self) -> None:
        statements = STATEMENTS["postgresql"]
        self._take = f"WITH swept AS ({statements.sweep}) {statements.acquire}"
        self._give = statements.release
        self._connection = plain_connection()
        self._times = {"ttl": settings.LEASE_TTL, "idle_timeout": settings.LEASE_IDLE_TIMEOUT}

    def acquire(self) -> None:
        values = {"service_id": SERVICE, "session_id": uuid4().hex, "owner": "caller"}
        row = self._connection.execute(self._take, values | self._times, prepare=True).fetchone()
        assert row is not None
        self._held = values | {"fencing_token": row[0]}

    def release(self) -> None:
        values = self._held | self._times | {"next_session": uuid4().hex, "offer": 5.0}
        values |= {"process": "none", "ended_as": "released"}
        assert self._connection.execute(self._give, values, prepare=True).fetchone() is not None


class ThroughTheOrm:
    """The same conditional update and release as querysets, on the same table with the same trigger."""

    tries = 0

    def acquire(self) -> None:
        self._session = uuid4().hex
        free = Q(session_id__isnull=True) | Q(expires_at__lte=Now())
        taken = Lease.objects.filter(free, service=SERVICE, service__enabled=True).update(
            session_id=self._session,
            owner="caller",
            fencing_token=F("fencing_token") + 1,
            started_at=Now(),
            last_activity_at=Now(),
            expires_at=Now() + timedelta(seconds=settings.LEASE_TTL),
        )
        assert taken == 1

    def release(self) -> None:
        mine = Lease.objects.filter(service=SERVICE, session_id=self._session)
        assert mine.update(session_id=None, ended_as="released") == 1


class Advisory:
    """pg_advisory_lock: gone with its connection, which it keeps; nothing is written."""

    tries = 0

    def __init__(self) -> None:
        self._connection = plain_connection()

    def acquire(self) -> None:
        self._connection.execute("SELECT pg_advisory_lock(1)", prepare=True)
        self.tries += 1

    def release(self) -> None:
        self._connection.execute("SELECT pg_advisory_unlock(1)", prepare=True)


class PgLock:
    """django-pglock: an advisory lock through Django's connection."""

    tries = 0

    def __init__(self) -> None:
        import pglock  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

        self._lock = pglock.advisory("benchmark")

    def acquire(self) -> None:
        assert self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


class RedisPy:
    """The Lock of redis-py: waits by asking ten times a second; expires, no queue."""

    def __init__(self) -> None:
        import redis  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

        self.tries = 0
        self._client = _counting(redis.Redis)
        self._lock = self._client.lock("benchmark:redis-py", timeout=TTL)

    def acquire(self) -> None:
        before = self._client.sets
        assert self._lock.acquire()
        self.tries += max(self._client.sets - before - 1, 1)

    def release(self) -> None:
        self._lock.release()


class RedisLock:
    """python-redis-lock: waits by BLPOP; expires, no queue."""

    def __init__(self) -> None:
        import redis  # noqa: PLC0415
        import redis_lock  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

        self.tries = 0
        self._client = _counting(redis.Redis)
        self._lock = redis_lock.Lock(self._client, "benchmark", expire=TTL)

    def close(self) -> None:
        self._client.close()

    def acquire(self) -> None:
        before = self._client.sets
        assert self._lock.acquire()
        self.tries += max(self._client.sets - before - 1, 1)

    def release(self) -> None:
        self._lock.release()


class WaitingLeasehold:
    """ahold(), which costs a waiting caller a task and neither a thread nor a connection."""

    def __init__(self) -> None:
        self.tries = 0
        self._owner = f"caller:{uuid4().hex}"

    async def acquire(self) -> None:
        before = _claims.of(self._owner)
        self._holding = ahold(SERVICE, self._owner, Turn(wait=PATIENCE))
        await self._holding.__aenter__()
        self.tries += max(_claims.of(self._owner) - before, 1)

    async def release(self) -> None:
        await self._holding.__aexit__(None, None, None)

    async def open(self) -> None:
        """It keeps nothing."""

    async def close(self) -> None:
        """It keeps nothing."""


class WaitingAdvisory:
    """pg_advisory_lock, which costs a waiting caller a connection."""

    def __init__(self) -> None:
        self.tries = 0

    async def open(self) -> None:
        url = os.environ["DATABASE_URL"]
        self._connection = await psycopg.AsyncConnection.connect(url, autocommit=True)

    async def acquire(self) -> None:
        await self._connection.execute("SELECT pg_advisory_lock(1)", prepare=True)
        self.tries += 1

    async def release(self) -> None:
        await self._connection.execute("SELECT pg_advisory_unlock(1)", prepare=True)

    async def close(self) -> None:
        await self._connection.close()


class WaitingRedisPy:
    """The asyncio Lock of redis-py."""

    def __init__(self) -> None:
        import redis.asyncio  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

        self.tries = 0
        self._client = _counting(redis.asyncio.Redis)
        self._lock = self._client.lock("benchmark:redis-py", timeout=TTL)

    async def acquire(self) -> None:
        before = self._client.sets
        assert await self._lock.acquire()
        self.tries += max(self._client.sets - before - 1, 1)

    async def release(self) -> None:
        await self._lock.release()

    async def open(self) -> None:
        await self._client.ping()

    async def close(self) -> None:
        await self._client.aclose()


class WaitingRedisLock:
    """python-redis-lock, which costs a waiting caller a thread."""

    def __init__(self) -> None:
        self._lock = RedisLock()

    @property
    def tries(self) -> int:
        return self._lock.tries

    async def acquire(self) -> None:
        await asyncio.to_thread(self._lock.acquire)

    async def release(self) -> None:
        await asyncio.to_thread(self._lock.release)

    async def open(self) -> None:
        """Its client connects by itself."""

    async def close(self) -> None:
        self._lock.close()


class _Claims:
    """Counts, by owner, how often callers who wait ask whether the lease is theirs."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._claim = mutex.claim
        mutex.claim = self._counted

    def of(self, owner: str) -> int:
        return self._numbers.get(owner, 0)

    def _counted(self, ticket: mutex.Ticket) -> mutex.Grant | None:
        self._numbers[ticket.owner] = self.of(ticket.owner) + 1
        return self._claim(ticket)


_claims = _Claims()


def plain_connection() -> psycopg.Connection:
    """psycopg alone: nothing of Django."""
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def _counting(client: Any) -> Any:
    """A client of Redis that counts its SETs."""

    class Counting(client):  # type: ignore[misc]
        sets = 0

        def set(self, *args: Any, **kwargs: Any) -> Any:
            self.sets += 1
            return super().set(*args, **kwargs)

    return Counting(unix_socket_path=os.environ["BENCHMARK_REDIS"])


LOCKS: dict[str, Callable[[], Lock]] = {
    "hold()": Leasehold,
    "acquire + release": Verbs,
    "raw psycopg, same statements": RawStatements,
    "Django ORM": ThroughTheOrm,
    "pg_advisory_lock": Advisory,
    "django-pglock": PgLock,
    "redis-py Lock": RedisPy,
    "python-redis-lock": RedisLock,
}
WAITING_LOCKS: dict[str, Callable[[], WaitingLock]] = {
    "hold()": WaitingLeasehold,
    "pg_advisory_lock": WaitingAdvisory,
    "redis-py Lock": WaitingRedisPy,
    "python-redis-lock": WaitingRedisLock,
}

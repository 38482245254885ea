"""/healthz: whether this process lives. /readyz: whether it can do its work."""

import asyncio
import logging
import threading
from functools import cache
from time import monotonic
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.module_loading import import_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from config.monitoring import asked

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
"""How often an engine in error is tried again: where nobody is sent any more, nobody else would try."""

stopping = threading.Event()
"""Set when the process is told to end."""

_retries: dict[str, tuple[float, asyncio.Task[None]]] = {}  # service -> when it began


@login_not_required
@never_cache
@require_safe
async def healthz(request: HttpRequest) -> HttpResponse:
    """GET: 200 as long as the process answers at all."""
    return JsonResponse({"status": "ok"})


@login_not_required
@never_cache
@require_safe
async def readyz(request: HttpRequest) -> HttpResponse:
    """GET: 200 if everything is ready, else 503; each check with a sentence."""
    checks = {"server": _server(), **await _database()}
    checks |= {service_id: _engine(service_id) for service_id in settings.LEASE_ENGINES}
    ready = all(check["ready"] for check in checks.values())
    body = {"status": "ready" if ready else "not ready", "checks": checks}
    return JsonResponse(body, status=200 if ready else 503)


def _check(*, ready: bool, message: str) -> dict[str, Any]:
    return {"ready": ready, "message": message}


def _server() -> dict[str, Any]:
    if stopping.is_set():
        return _check(ready=False, message="This server is about to end. Please ask another one.")
    return _check(ready=True, message="This server takes requests.")


async def _database() -> dict[str, dict[str, Any]]:
    try:
        missing, counts_tries = await asked(lambda: (_missing_migrations(), _counts_tries()))
    except (DatabaseError, TimeoutError):
        unknown = _check(ready=False, message="Nobody knows before the database answers.")
        return {
            "database": _check(ready=False, message="The database does not answer. Please see that it runs."),
            "migrations": unknown,
            "sign-in": unknown,
        }
    return {
        "database": _check(ready=True, message="The database answers."),
        "migrations": _check(
            ready=not missing,
            message=f"{missing} are missing. Please run: manage.py migrate"
            if missing
            else "All are applied.",
        ),
        "sign-in": _check(
            ready=counts_tries,
            message="Passwords can be tried."
            if counts_tries
            else "Nobody can sign in with a password. Please run: manage.py createcachetable",
        ),
    }


def _missing_migrations() -> int:
    return len(_known_migrations() - set(MigrationRecorder(connection).applied_migrations()))


def _counts_tries() -> bool:
    """Whether the table of config.sign_in_tries is there, if it is wanted: no migration makes it."""
    if settings.SIGN_IN_RATE is None:
        return True
    return settings.CACHES["sign-in"]["LOCATION"] in connection.introspection.table_names()


@cache
def _known_migrations() -> frozenset[tuple[str, str]]:
    """Those that the installed code brings, read once: they do not change while it runs."""
    return frozenset(MigrationLoader(None).graph.nodes)


def _engine(service_id: str) -> dict[str, Any]:
    engine = import_string(settings.LEASE_ENGINES[service_id])()
    health = engine.health()
    if health.ready:
        return _check(ready=True, message="The engine is ready.")
    if health.error is None:
        return _check(ready=False, message="The engine is being loaded.")
    _try_again(service_id, engine)
    return _check(ready=False, message=health.error)


def _try_again(service_id: str, engine: Any) -> None:
    began, task = _retries.get(service_id, (-RETRY_SECONDS, None))
    if monotonic() - began >= RETRY_SECONDS and (task is None or task.done()):
        _retries[service_id] = (monotonic(), asyncio.create_task(_revive(service_id, engine)))


async def _revive(service_id: str, engine: Any) -> None:
    try:
        await engine.warm_up()
    except Exception as error:  # noqa: BLE001 - the engine's health says what is wrong
        logger.info("still failing", extra={"about": {"service": service_id, "kind": type(error).__name__}})

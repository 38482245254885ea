"""The ASGI application: Django, its static files, a bound on requests, and what frames the process's life."""

import gc
import os
from pathlib import Path
from typing import Any

gc.disable()  # all that is loaded here stays: looking through it again and again takes a sixth of the start

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings

if settings.METRICS_DIR:  # servers only; prometheus_client looks for this when it is imported
    Path(settings.METRICS_DIR).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", settings.METRICS_DIR)

import django
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_started
from django.db import close_old_connections, reset_queries
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import get_resolver, set_urlconf

django.setup(set_prefix=False)

from config.middleware import on_the_loop
from config.requests import Requests
from leases.request_thread import request_thread

settings.MIDDLEWARE = on_the_loop(settings.MIDDLEWARE)
for tidying_up in (close_old_connections, reset_queries):
    # A request's thread is as good as new and has no connection yet: a trip to it, to do nothing.
    request_started.disconnect(tidying_up)


class Handler(ASGIHandler):
    """Django's, with a thread that is there already, and without the one in which it logs that an answer says
    no: config.requests logs them all."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with request_thread():
            await super().__call__(scope, receive, send)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        set_urlconf(settings.ROOT_URLCONF)
        response: HttpResponseBase = await self._middleware_chain(request)  # type: ignore[attr-defined]
        response._resource_closers.append(request.close)  # type: ignore[attr-defined]
        return response


django_application = Handler()

from config.body_limit import BodyLimit
from config.lifespan import Lifespan
from config.logs import log_the_uncaught
from config.static_files import StaticFiles

log_the_uncaught()
application = Lifespan(Requests(BodyLimit(StaticFiles(django_application))))
get_resolver().url_patterns  # noqa: B018 - loads every view now, not with somebody's first request
gc.enable()

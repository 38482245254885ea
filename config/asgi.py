"""The ASGI application: Django, its static files, a bound on requests, and what frames the process's life."""

import os
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings

if settings.METRICS_DIR:  # servers only; prometheus_client looks for this when it is imported
    Path(settings.METRICS_DIR).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", settings.METRICS_DIR)

import django
from django.core.handlers.asgi import ASGIHandler

django.setup(set_prefix=False)

from config.middleware import on_the_loop

settings.MIDDLEWARE = on_the_loop(settings.MIDDLEWARE)
django_application = ASGIHandler()

from config.body_limit import BodyLimit
from config.lifespan import Lifespan
from config.logs import log_the_uncaught
from config.requests import Requests
from config.static_files import StaticFiles

log_the_uncaught()
application = Lifespan(Requests(BodyLimit(StaticFiles(django_application))))

"""The ASGI application: Django, its static files, a bound on requests, and what frames the process's life."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from config.body_limit import BodyLimit
from config.lifespan import Lifespan

application = Lifespan(BodyLimit(ASGIStaticFilesHandler(django_application)))

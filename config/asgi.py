"""The ASGI application: Django, its static files, and a bound on what a request may carry."""

import asyncio
import os
import threading

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

application_without_limits = ASGIStaticFilesHandler(get_asgi_application())

from chat.engines import get_engine
from config.body_limit import BodyLimit
from documents.embedders import get_embedder


async def warm_up() -> None:
    """Load both engines, so that nobody's first question waits for it. What fails shows in the status."""
    await asyncio.gather(get_engine().warm_up(), get_embedder().warm_up(), return_exceptions=True)


application = BodyLimit(application_without_limits)
threading.Thread(target=asyncio.run, args=(warm_up(),), name="warm-up", daemon=True).start()

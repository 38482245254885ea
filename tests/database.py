"""The test database as other processes see it, and back to its first state."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import quote

from django.apps import apps
from django.db import connection, transaction

P = ParamSpec("P")
T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent


KEPT = {"auth_permission", "django_content_type", "django_migrations"}  # what Django makes after migrating


def empty() -> None:
    """Delete what a test has left.

    Much sooner than Django's `flush`, which makes all tables anew, and then the permissions.
    """
    names = set(connection.introspection.django_table_names(only_existing=True)) - KEPT
    with transaction.atomic(), connection.cursor() as cursor:
        for name in sorted(names):
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(name)}")  # noqa: S608 - a name of Django's


def restore_services() -> None:
    import_module("leases.migrations.0003_services").create(apps, None)


def database_url() -> str:
    """The URL by which another process reaches the database that this test uses."""
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{values['NAME']}"
    host = quote(str(values["OPTIONS"].get("host") or values["HOST"]), safe="")
    return f"postgresql://{values['USER']}:{values['PASSWORD']}@/{values['NAME']}?host={host}"


def start_python(module: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Another process on the same database, its standard streams connected to this one."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ
        | {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "config.settings"}
        | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def query(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run database work of an async test in a thread that leaves no connection behind."""

    def call() -> T:
        try:
            return function(*args, **kwargs)
        finally:
            connection.close()

    return await asyncio.to_thread(call)

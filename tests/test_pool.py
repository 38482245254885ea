"""Many requests at the same moment, and no more connections than the pool has."""

import asyncio
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from leases import mutex
from tests.database import query
from tests.server import PRODUCTION, client_of_server

pytestmark = pytest.mark.usefixtures("leases")

MANY = 24  # a pool has ten
CSRF = "A" * 32


def environment() -> dict[str, str]:
    """A public site with this process's key, which signs sessions."""
    return PRODUCTION | {"SECRET_KEY": settings.SECRET_KEY}


def cookies(user: str, *, operator: bool = False) -> dict[str, str]:
    """Of somebody who has signed in."""
    client = Client()
    create = User.objects.create_superuser if operator else User.objects.create_user
    client.force_login(create(user))
    return {
        settings.SESSION_COOKIE_NAME: client.cookies[settings.SESSION_COOKIE_NAME].value,
        "csrftoken": CSRF,
    }


async def status(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/api/services/status")
    body: dict[str, Any] = answer.raise_for_status().json()
    return body


async def test_pages_for_those_who_have_signed_in_do_not_wait_for_each_other() -> None:
    """Looking the user up keeps no connection while the page asks for another."""
    known = await query(cookies, "ann")
    async with client_of_server(**environment(), ANONYMOUS_USE="False") as client:
        client.cookies.update(known)
        async with asyncio.timeout(15):
            pages = await asyncio.gather(*(client.get("/") for _ in range(MANY)))
        assert {page.status_code for page in pages} == {200}


async def test_exports_do_not_wait_for_each_other() -> None:
    known = await query(cookies, "olga", operator=True)
    async with client_of_server(**environment()) as client:
        client.cookies.update(known)
        async with asyncio.timeout(15):
            exports = await asyncio.gather(
                *(client.get("/admin/leases/hold/export.csv") for _ in range(MANY))
            )
        assert {export.headers["Content-Type"] for export in exports} == {"text/csv; charset=utf-8"}


async def test_forms_that_wait_keep_no_connection_from_others() -> None:
    """Nor does counting what strangers ask for, which looks at who asks."""
    await query(mutex.acquire, "lightweight-llm", "somebody")
    known = await query(cookies, "ann")
    async with client_of_server(**environment(), ANONYMOUS_RATE="1000/min") as client:
        client.cookies.update(known)
        form = {"message": "Hello", "csrfmiddlewaretoken": CSRF}
        origin = {"Origin": str(client.base_url).rstrip("/")}
        waiting = [asyncio.ensure_future(client.post("/", data=form, headers=origin)) for _ in range(MANY)]
        try:
            async with httpx.AsyncClient(base_url=client.base_url, timeout=10) as other, asyncio.timeout(10):
                while not (await status(other))["services"]["chat"]["queue"]["length"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await status(other)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

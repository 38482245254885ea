"""Many requests at the same moment, and no more connections than the pool has."""

import asyncio

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


def cookies(user: str) -> dict[str, str]:
    """Of somebody who has signed in."""
    client = Client()
    client.force_login(User.objects.create_user(user))
    return {
        settings.SESSION_COOKIE_NAME: client.cookies[settings.SESSION_COOKIE_NAME].value,
        "csrftoken": CSRF,
    }


async def others_are_answered(client: httpx.AsyncClient) -> None:
    await asyncio.sleep(0.5)
    async with asyncio.timeout(10):
        assert (await client.get("/api/services/status")).status_code == 200


async def test_pages_for_those_who_have_signed_in_do_not_wait_for_each_other() -> None:
    """Looking the user up keeps no connection while the page asks for another."""
    known = await query(cookies, "ann")
    async with client_of_server(**environment(), ANONYMOUS_USE="False") as client:
        client.cookies.update(known)
        async with asyncio.timeout(15):
            pages = await asyncio.gather(*(client.get("/") for _ in range(MANY)))
        assert {page.status_code for page in pages} == {200}


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
            async with httpx.AsyncClient(base_url=client.base_url) as other:
                await others_are_answered(other)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

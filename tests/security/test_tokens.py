"""Tokens: stored as digests, revoked at once, few enough to keep an eye on."""

import base64
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core import serializers
from django.test import Client
from knox.models import AuthToken
from knox.settings import knox_settings
from rest_framework.test import APIClient

from tests.server import PRODUCTION, running_server

pytestmark = pytest.mark.usefixtures("leases")

PASSWORD = "correct horse battery"
PATH = "/api/auth/token"


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann", password=PASSWORD)


def basic(name: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{PASSWORD}".encode()).decode()}


def new_token(name: str = "ann") -> str:
    made: Any = APIClient().post(PATH, headers=basic(name))
    assert made.status_code == 201
    token: str = made.json()["token"]
    return token


def using(token: str) -> dict[str, str]:
    return {"Authorization": f"Token {token}"}


def status(token: str) -> int:
    return APIClient().get("/api/RAG/documents", headers=using(token)).status_code


def test_the_token_stands_nowhere_in_the_database(ann: User) -> None:
    token = new_token()
    assert status(token) == 200
    rows = [row for model in apps.get_models() for row in model._default_manager.all()]
    dump = serializers.serialize("json", rows)
    assert AuthToken.objects.get().digest in dump  # it is a dump of everything
    assert token not in dump
    assert token[16:] not in dump
    assert len(token) - len(AuthToken.objects.get().token_key) >= 48  # what nobody can read is long enough


def test_revoking_works_at_once_and_for_that_token_only(ann: User) -> None:
    gone, kept = new_token(), new_token()
    assert APIClient().delete(PATH, headers=using(gone)).status_code == 200
    assert (status(gone), status(kept)) == (401, 200)
    assert APIClient().delete(PATH, headers=using(gone)).status_code == 401


def test_an_operator_revokes_in_the_admin(ann: User) -> None:
    token = new_token()
    operator = Client()
    operator.force_login(User.objects.create_superuser("root"))
    page = operator.get("/admin/knox/authtoken/")
    assert page.status_code == 200
    assert token not in page.content.decode()
    digest = AuthToken.objects.get().digest
    operator.post(f"/admin/knox/authtoken/{digest}/delete/", {"post": "yes"})
    assert status(token) == 401


def test_a_token_of_somebody_who_may_not_come_any_more_is_worthless(ann: User) -> None:
    token = new_token()
    User.objects.update(is_active=False)
    assert status(token) == 401


def test_everybody_sees_and_revokes_their_own(ann: User) -> None:
    User.objects.create_user("bob", password=PASSWORD)
    first, second, bobs = new_token(), new_token(), new_token("bob")
    listed = APIClient().get(PATH, headers=using(second)).json()["tokens"]
    assert [(token["begins"], token["current"]) for token in listed] == [
        (first[:8], False),
        (second[:8], True),
    ]
    assert APIClient().delete(f"{PATH}?all=true", headers=using(first)).status_code == 200
    assert (status(first), status(second), status(bobs)) == (401, 401, 200)


def test_all_is_said_by_true_and_by_nothing_else(ann: User) -> None:
    gone, kept = new_token(), new_token()
    assert APIClient().delete(f"{PATH}?all=false", headers=using(gone)).status_code == 200
    assert (status(gone), status(kept)) == (401, 200)


def test_a_lost_token_is_revoked_by_password(ann: User) -> None:
    token = new_token()
    unclear: Any = APIClient().delete(PATH, headers=basic("ann"))
    assert unclear.status_code == 400
    assert "?all=true" in unclear.json()["error"]
    assert status(token) == 200
    assert APIClient().delete(f"{PATH}?all=true", headers=basic("ann")).status_code == 200
    assert status(token) == 401


def test_nobody_has_more_tokens_than_they_can_know(ann: User) -> None:
    for _ in range(knox_settings.TOKEN_LIMIT_PER_USER):
        AuthToken.objects.create(user=ann)
    refused: Any = APIClient().post(PATH, headers=basic("ann"))
    assert refused.status_code == 403
    assert "20 tokens already" in refused.json()["error"]
    AuthToken.objects.first().delete()
    new_token()


def test_a_session_makes_no_token(ann: User) -> None:
    client = Client()
    client.force_login(ann)
    assert client.post(PATH).status_code == 401


def test_two_servers_give_no_more_tokens_than_one(ann: User) -> None:
    for _ in range(knox_settings.TOKEN_LIMIT_PER_USER - 1):
        AuthToken.objects.create(user=ann)
    with ExitStack() as servers, ThreadPoolExecutor(8) as threads:
        bases = [servers.enter_context(running_server(**PRODUCTION, SIGN_IN_RATE="")) for _ in range(2)]
        together = Barrier(8, timeout=30)

        def ask(number: int) -> int:
            with httpx.Client(base_url=bases[number % 2], timeout=60) as client:
                client.get("/healthz")
                together.wait()
                return client.post(PATH, headers=basic("ann")).status_code

        answers = list(threads.map(ask, range(8)))
    assert sorted(answers) == [201] + [403] * 7

"""Signing in, out and up, through the real pages."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from pytest_django import Settings

from chat.models import Conversation
from documents.models import Document

pytestmark = pytest.mark.usefixtures("leases")

PASSWORD = "correct horse battery"


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann", password=PASSWORD)


def make_things(client: Client) -> None:
    document = {"title": "Tea", "content": "Green tea.", "contentType": "text"}
    for path, body in (("/api/RAG/upload", document), ("/api/conversations", {"title": "Tea"})):
        assert client.post(path, json.dumps(body), content_type="application/json").status_code == 201


def sign_in(client: Client, **more: str) -> int:
    return client.post("/sign-in/", {"username": "ann", "password": PASSWORD} | more).status_code


def test_what_a_visitor_made_comes_along(client: Client, ann: User) -> None:
    make_things(client)
    assert sign_in(client) == 302
    assert Document.objects.get().owner == Conversation.objects.get().owner == f"user:{ann.pk}"
    assert client.get("/api/RAG/documents").json()["total"] == 1
    assert client.get("/api/conversations").json()["total"] == 1
    client.post("/sign-out/")
    assert client.get("/api/RAG/documents").json()["total"] == 0
    assert sign_in(Client()) == 302  # from another browser: still there
    assert Document.objects.get().owner == f"user:{ann.pk}"


def test_a_wrong_password_takes_nothing_along(client: Client, ann: User) -> None:
    make_things(client)
    page = client.post("/sign-in/", {"username": "ann", "password": "wrong"})
    assert page.status_code == 200
    assert "Please enter a correct username and password" in page.content.decode()
    assert Document.objects.get().owner.startswith("browser:")


def test_what_others_made_stays_theirs(client: Client, ann: User) -> None:
    make_things(Client())
    make_things(client)
    sign_in(client)
    assert Document.objects.filter(owner=f"user:{ann.pk}").count() == 1
    assert Document.objects.filter(owner__startswith="browser:").count() == 1


def test_nobody_is_led_to_another_site(client: Client, ann: User) -> None:
    answer = client.post(
        "/sign-in/", {"username": "ann", "password": PASSWORD, "next": "https://evil.example/"}
    )
    assert answer["Location"] == "/"


def test_signing_out_takes_a_form_of_ours(ann: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ann)
    assert strict.get("/sign-out/").status_code == 405
    assert strict.post("/sign-out/").status_code == 403


def test_an_account_is_made_only_where_the_operator_allows_it(client: Client, settings: Settings) -> None:
    form = {"username": "bob", "password1": PASSWORD, "password2": PASSWORD}
    assert client.get("/sign-up/").status_code == 404
    assert client.post("/sign-up/", form).status_code == 404
    assert "Make an account" not in client.get("/sign-in/").content.decode()
    settings.SIGN_UP = True
    make_things(client)
    assert "Make an account" in client.get("/sign-in/").content.decode()
    assert client.post("/sign-up/", form | {"password2": "other"}).status_code == 200
    assert client.post("/sign-up/", form).status_code == 302
    assert Document.objects.get().owner == f"user:{User.objects.get().pk}"
    taken = Client().post("/sign-up/", form | {"username": "Bob"})
    assert "already exists" in taken.content.decode()
    assert User.objects.count() == 1


def test_a_form_that_is_sent_twice_at_once_makes_one_account(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SIGN_UP = True
    form = {"username": "bob", "password1": PASSWORD, "password2": PASSWORD}
    both_are_valid = threading.Barrier(2, timeout=10)
    set_password = User.set_password

    def hashed_together(user: User, password: str) -> None:
        both_are_valid.wait()
        set_password(user, password)

    monkeypatch.setattr(User, "set_password", hashed_together)

    def sign_up() -> tuple[int, str]:
        try:
            answer = Client(raise_request_exception=False).post("/sign-up/", form)
            return answer.status_code, answer.content.decode()
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        (again, page), (made, _) = sorted(one.result() for one in [pool.submit(sign_up) for _ in range(2)])
    assert (again, made) == (200, 302)
    assert "A user with that username already exists." in page
    assert User.objects.count() == 1

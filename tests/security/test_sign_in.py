"""Passwords can be tried only so often, by whatever door and process."""

import base64
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.test import Client, RequestFactory
from pytest_django import Settings

from config.sign_in_tries import FOR_ALL_NAMES, Tries
from tests.server import PRODUCTION, running_server

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def rate(leases: None, settings: Settings) -> Iterator[int]:
    settings.SIGN_IN_RATE = (3, 60)
    caches["sign-in"].clear()  # its table is no model's, and not emptied with them
    yield 3
    caches["sign-in"].clear()


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann", password=PASSWORD)


def by_page(client: Client, name: str, password: str) -> Any:
    return client.post("/sign-in/", {"username": name, "password": password})


def by_basic(client: Client, name: str, password: str) -> Any:
    credentials = base64.b64encode(f"{name}:{password}".encode()).decode()
    return client.post("/api/auth/token", headers={"Authorization": f"Basic {credentials}"})


DOORS = pytest.mark.parametrize("door", [by_page, by_basic])


@DOORS
def test_after_so_many_tries_even_the_right_password_has_to_wait(
    client: Client, ann: User, rate: int, door: Callable[..., Any]
) -> None:
    for _ in range(rate):
        assert door(client, "ann", "wrong").status_code in (200, 401)
    refused = door(client, "ann", PASSWORD)
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= 60
    assert f"Please wait {refused['Retry-After']} second" in refused.content.decode()
    assert "_auth_user_id" not in client.session
    assert "token" not in refused.headers["Content-Type"]


def test_both_doors_count_together(client: Client, ann: User) -> None:
    assert by_page(client, "ann", "wrong").status_code == 200
    assert by_basic(client, "ann", "wrong").status_code == 401
    assert by_page(client, "ann", "wrong").status_code == 200
    assert by_basic(client, "ann", PASSWORD).status_code == 429
    assert by_page(Client(), "ann", PASSWORD).status_code == 429  # another browser there
    assert by_page(Client(), "ANN", PASSWORD).status_code == 429  # and the same name, more or less


@DOORS
def test_a_good_sign_in_frees_the_name(
    client: Client, ann: User, rate: int, door: Callable[..., Any]
) -> None:
    for _ in range(3):
        for _ in range(rate - 1):
            door(Client(), "ann", "wrong")
        assert door(Client(), "ann", PASSWORD).status_code in (302, 201)


@DOORS
def test_other_names_and_other_addresses_go_on(ann: User, rate: int, door: Callable[..., Any]) -> None:
    for _ in range(rate + 1):
        door(Client(), "bob", "wrong")
    assert door(Client(), "ann", PASSWORD).status_code in (302, 201)
    for _ in range(rate + 1):
        door(Client(), "ann", "wrong")
    assert door(Client(REMOTE_ADDR="192.0.2.7"), "ann", PASSWORD).status_code in (302, 201)


@DOORS
def test_an_address_has_so_many_tries_for_all_names(ann: User, rate: int, door: Callable[..., Any]) -> None:
    for number in range(rate * FOR_ALL_NAMES):
        assert door(Client(), f"name{number}", "wrong").status_code in (200, 401)
    assert door(Client(), "ann", PASSWORD).status_code == 429
    assert door(Client(REMOTE_ADDR="192.0.2.7"), "ann", PASSWORD).status_code in (302, 201)


def test_accounts_cannot_be_made_by_the_dozen(client: Client, settings: Settings, rate: int) -> None:
    settings.SIGN_UP = True
    for number in range(rate):
        form = {"username": f"new{number}", "password1": PASSWORD, "password2": PASSWORD}
        assert Client().post("/sign-up/", form).status_code == 302
    refused = client.post("/sign-up/", {"username": "more", "password1": PASSWORD, "password2": PASSWORD})
    assert refused.status_code == 429
    assert not User.objects.filter(username="more").exists()


def test_a_forged_address_and_a_network_full_of_them_are_one(rate: int) -> None:
    def tries(address: str, **headers: str) -> Tries:
        return Tries(RequestFactory().get("/", REMOTE_ADDR=address, headers=headers), "ann")

    for number in range(rate):
        assert tries(f"2001:db8:1:2:{number}::1").take() == 0
    assert tries("2001:db8:1:2:ffff::1").take() > 0
    assert tries("2001:db8:1:3::1").take() == 0
    for number in range(rate):
        assert tries("192.0.2.1", **{"X-Forwarded-For": f"198.51.100.{number}"}).take() == 0
    assert tries("192.0.2.1", **{"X-Forwarded-For": "198.51.100.9"}).take() > 0
    assert tries("::ffff:192.0.2.1").take() > 0


def test_ways_to_write_a_name_are_one_name(rate: int) -> None:
    """Django keeps names as NFKC has them."""
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1")
    waits = [Tries(request, name).take() for name in ("Ann", "ann", "\uff41\uff4e\uff4e", "\uff21nn")]
    assert [wait > 0 for wait in waits] == [False] * rate + [True]


def test_the_wait_ends_with_the_first_place_that_is_free(rate: int) -> None:
    tries = Tries(RequestFactory().get("/", REMOTE_ADDR="192.0.2.1"), "ann")
    for place, seconds in zip(tries._places(rate), (50, 20.5, 35), strict=True):
        caches["sign-in"].set(place, time.time() + seconds, 60)
    assert 20 <= tries.take() <= 21


def test_names_of_any_kind_are_counted(rate: int) -> None:
    for name in ("", "x" * 100_000, "\0", "\ud800", "<script>"):
        tries = Tries(RequestFactory().get("/", REMOTE_ADDR="192.0.2.1"), name)
        assert [tries.take() > 0 for _ in range(rate + 1)] == [False] * rate + [True]
        caches["sign-in"].clear()


def test_two_servers_count_together_however_many_ask_at_once(ann: User) -> None:
    with ExitStack() as servers, ThreadPoolExecutor(8) as threads:
        bases = [servers.enter_context(running_server(**PRODUCTION, SIGN_IN_RATE="5/hour")) for _ in range(2)]

        def try_one(number: int) -> int:
            return httpx.post(
                f"{bases[number % 2]}/api/auth/token",
                auth=("ann", f"wrong{number}"),
                headers={"X-Forwarded-For": f"198.51.100.{number}"},
                timeout=60,
            ).status_code

        answers = list(threads.map(try_one, range(24)))
    assert sorted(answers) == [401] * 5 + [429] * 19


class TestAdmin:
    def test_its_own_login_page_is_no_door(self, client: Client, ann: User) -> None:
        ann.is_staff = ann.is_superuser = True
        ann.save()
        assert client.get("/admin/leases/hold/", follow=True).redirect_chain == [
            ("/admin/login/?next=/admin/leases/hold/", 302),
            ("/sign-in/?next=/admin/leases/hold/", 302),
        ]
        tried = client.post("/admin/login/", {"username": "ann", "password": PASSWORD})
        assert tried["Location"] == "/sign-in/?next=/admin/"
        assert "_auth_user_id" not in client.session
        signed_in = client.post(
            "/sign-in/?next=/admin/leases/hold/", {"username": "ann", "password": PASSWORD}
        )
        assert signed_in["Location"] == "/admin/leases/hold/"
        assert client.get("/admin/leases/hold/").status_code == 200
        assert client.get("/admin/login/")["Location"] == "/admin/"

    def test_who_is_no_operator_is_told_so_and_not_sent_in_circles(self, client: Client, ann: User) -> None:
        client.force_login(ann)
        for path in ("/admin/", "/sign-in/?next=/admin/"):
            assert client.get(path, follow=True).status_code == 403

    @pytest.mark.parametrize(
        "evil", ["https://evil.example/", "//evil.example", r"/\evil.example", "javascript:1"]
    )
    def test_nobody_is_led_to_another_site(self, client: Client, ann: User, evil: str) -> None:
        followed = client.get("/admin/login/", {"next": evil}, follow=True)
        client.post(followed.request["PATH_INFO"] + "?" + followed.request["QUERY_STRING"])
        answer = client.post(
            f"/sign-in/?{followed.request['QUERY_STRING']}", {"username": "ann", "password": PASSWORD}
        )
        assert answer["Location"] == "/"

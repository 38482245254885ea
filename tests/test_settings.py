"""Settings that would do harm are said at the start."""

import os
import runpy
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from pytest_django import Settings

from leases.models import Service
from tests.database import ROOT


def found() -> set[str | None]:
    return {message.id for message in checks.run_checks()}


@pytest.mark.parametrize("name", ["LEASE_TTL", "LEASE_HEARTBEAT", "LEASE_IDLE_TIMEOUT"])
def test_times_must_be_positive(settings: Settings, name: str) -> None:
    assert not found()
    setattr(settings, name, 0.0)
    assert found() == {"leases.E001"}


def test_a_heartbeat_must_fit_twice_into_a_ttl(settings: Settings) -> None:
    settings.LEASE_TTL, settings.LEASE_HEARTBEAT = 3.0, 2.0
    assert found() == {"leases.E002"}


def test_an_embedding_server_needs_its_models_name(settings: Settings) -> None:
    settings.EMBEDDING_BASE_URL = "http://127.0.0.1:9/v1"
    assert found() == {"documents.E001"}
    settings.EMBEDDING_BASE_URL, settings.EMBEDDING_MODEL = "", "some-model"
    assert found() == {"documents.W002"}


def test_a_reranking_model_needs_a_server(settings: Settings) -> None:
    settings.RERANK_MODEL = "some-model"
    assert found() == {"documents.W003"}
    settings.RERANK_BASE_URL = "http://127.0.0.1:9/v1"
    assert not found()


@pytest.mark.usefixtures("leases")
def test_every_migration_can_be_taken_back() -> None:
    for app in ("chat", "documents", "leases"):
        call_command("migrate", app, "zero", verbosity=0)
    call_command("migrate", verbosity=0)
    assert Service.objects.count() == 2


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A trial's environment, in which nothing else is set."""
    for name in os.environ.keys() - {"PATH"}:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DEBUG", "True")
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    return monkeypatch


def read() -> dict[str, Any]:
    """The settings as a process that begins now would have them."""
    return runpy.run_path(str(ROOT / "config" / "settings.py"))


@pytest.mark.parametrize(
    "name", ["SECRET_KEY", "METRICS_TOKEN", "CHAT_API_KEY", "EMBEDDING_API_KEY", "DATABASE_LISTEN_URL"]
)
def test_a_secret_may_begin_with_a_dollar_sign(trial: pytest.MonkeyPatch, name: str) -> None:
    trial.setenv("HOME", "/home/ann")
    for value in ("$ecret", "$HOME", r"\$HOME$", "$"):
        trial.setenv(name, value)
        assert read()[name] == value


def test_so_may_the_password_of_a_database(trial: pytest.MonkeyPatch) -> None:
    trial.setenv("DATABASE_URL", "postgresql://ann:$HOME@localhost/leasehold")
    assert read()["DATABASES"]["default"]["PASSWORD"] == "$HOME"


@pytest.mark.parametrize("url", ["localhost/leasehold", "mysql://ann:secret@localhost/leasehold"])
def test_another_kind_of_database_is_refused(trial: pytest.MonkeyPatch, url: str) -> None:
    trial.setenv("DATABASE_URL", url)
    with pytest.raises(ImproperlyConfigured, match=r"^DATABASE_URL must begin with postgresql://"):
        read()


def test_a_list_may_have_spaces_and_a_comma_at_its_end(trial: pytest.MonkeyPatch) -> None:
    assert read()["ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]"]
    trial.setenv("ALLOWED_HOSTS", " a.example, b.example ,, ")
    trial.setenv("CSRF_TRUSTED_ORIGINS", "https://a.example, https://b.example")
    settings = read()
    assert settings["ALLOWED_HOSTS"] == ["a.example", "b.example"]
    assert settings["CSRF_TRUSTED_ORIGINS"] == ["https://a.example", "https://b.example"]


@pytest.mark.parametrize(("word", "meant"), [("True", True), (" YES", True), ("off", False), ("0", False)])
def test_a_switch_is_on_or_off(trial: pytest.MonkeyPatch, word: str, meant: bool) -> None:
    for name in ("HTTPS", "SIGN_UP", "ANONYMOUS_USE"):
        trial.setenv(name, word)
        assert read()[name] is meant


@pytest.mark.parametrize("name", ["DEBUG", "HTTPS", "ANONYMOUS_USE", "CHAT_NEIGHBOURS"])
def test_a_switch_that_is_neither_is_refused(trial: pytest.MonkeyPatch, name: str) -> None:
    trial.setenv(name, "enabled")
    with pytest.raises(ImproperlyConfigured, match=f"^{name} must be True or False"):
        read()


@pytest.mark.parametrize("text", ["3,600", "30,5", "1.000,5", "30 s", "nan", "inf", "long"])
def test_what_is_no_number_is_refused(trial: pytest.MonkeyPatch, text: str) -> None:
    for name in ("LEASE_WAIT_MAX", "LEASE_QUEUE_LIMIT"):
        with (
            pytest.MonkeyPatch.context() as here,
            pytest.raises(ImproperlyConfigured, match=f"^{name} must be a"),
        ):
            here.setenv(name, text)
            read()


def test_numbers_are_read(trial: pytest.MonkeyPatch) -> None:
    for name, text in (("LEASE_TTL", "4.5"), ("CHAT_CONTEXT_WINDOW", "2000"), ("CHAT_PASSAGES", " 0 ")):
        trial.setenv(name, text)
    settings = read()
    assert (settings["LEASE_TTL"], settings["LEASE_HEARTBEAT"]) == (4.5, 1.5)
    assert (settings["CHAT_CONTEXT_WINDOW"], settings["CHAT_PASSAGES"]) == (2000, 0)


def test_what_is_set_to_nothing_is_not_set(trial: pytest.MonkeyPatch) -> None:
    """As an environment file has it whose values are still to be filled in."""
    names = [
        *("ANONYMOUS_USE", "HTTPS", "SIGN_UP", "LEASE_TTL", "LEASE_HEARTBEAT", "LEASE_QUEUE_LIMIT"),
        *("CHAT_CONTEXT_WINDOW", "CHAT_PASSAGES", "CHAT_NEIGHBOURS", "CHAT_TIMEOUT"),
    ]
    unset = read()
    for name in (*names, "DATABASE_URL", "DATABASE_PREPARED_STATEMENTS"):
        trial.setenv(name, "")
    settings = read()
    assert {name: settings[name] for name in names} == {name: unset[name] for name in names}
    assert settings["DATABASES"] == unset["DATABASES"]

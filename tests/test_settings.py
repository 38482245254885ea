"""Settings that would do harm are said at the start."""

import os
import runpy
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
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

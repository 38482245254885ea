"""What operators hear when a process does not hear."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from pytest_django import Settings

from leases import wakeups
from tests.leases.test_keeper import until

SECRET = "qzsecret"


@pytest.fixture
def tries(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One for each time that a listener has tried to connect, to where nobody ever answers."""
    connect: Callable[[], psycopg.Connection] = wakeups._listening_connection
    tried: list[str] = []

    def noted() -> psycopg.Connection:
        tried.append(settings.DATABASE_LISTEN_URL)
        return connect()

    settings.DATABASE_LISTEN_URL = f"postgresql://somebody:{SECRET}@127.0.0.1:1/leasehold"
    monkeypatch.setattr(wakeups, "_listening_connection", noted)
    monkeypatch.setattr(wakeups, "RECONNECT_SECONDS", 0.01)
    return tried


@contextmanager
def listener() -> Iterator[None]:
    running = wakeups.Listener()
    try:
        yield
    finally:
        running.stop()


def test_a_url_that_never_worked_is_mentioned_once(
    tries: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with listener():
        until(lambda: len(tries) > 5)
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "Not hearing of hand-overs" in warning.getMessage()
    assert SECRET not in caplog.text


def test_it_is_mentioned_again_while_it_lasts(
    tries: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "REMIND_SECONDS", 0.05)
    with listener():
        until(lambda: len(caplog.records) > 2)
    assert len(tries) > 2
    assert SECRET not in caplog.text

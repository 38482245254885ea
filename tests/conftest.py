from collections.abc import Iterator

import pytest
from _pytest.terminal import TerminalReporter
from asgiref.sync import SyncToAsync
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connection
from django.test import TransactionTestCase
from rest_framework.test import APIClient

from leases import rush, waiting
from tests.database import empty, restore_services


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="The fault suite with all its counts.")
    parser.addoption(
        "--what-databases-change",
        action="store_true",
        help="Without tests that are the same on every database.",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--what-databases-change"):
        same = [item for item in items if not _a_database_could_change(item)]
        config.hook.pytest_deselected(items=same)
        items[:] = [item for item in items if _a_database_could_change(item)]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """It is no failure if none of those that were asked for is left."""
    if (
        session.config.getoption("--what-databases-change")
        and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
    ):
        session.exitstatus = pytest.ExitCode.OK


def _a_database_could_change(item: pytest.Item) -> bool:
    """Whether it asks one, or might be skipped on another."""
    return "leases" in getattr(item, "fixturenames", ()) or item.get_closest_marker("skipif") is not None


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """The figures that tests measured, at the end of the run."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name == "figure" and report.when == "call":
                    terminalreporter.write_line(f"figure: {text}")


@pytest.fixture(scope="session", autouse=True)
def emptied_soon() -> Iterator[None]:
    """Tests without a transaction around them end with `empty` instead of Django's `flush`."""
    with pytest.MonkeyPatch.context() as here:
        here.setattr(TransactionTestCase, "_fixture_teardown", lambda _: empty())
        yield


@pytest.fixture(scope="session", autouse=True)
def hashed_soon() -> Iterator[None]:
    """Passwords are hashed once instead of a million times, which takes half a second."""
    with pytest.MonkeyPatch.context() as here:
        here.setattr(PBKDF2PasswordHasher, "iterations", 1)
        yield


@pytest.fixture
def leases(transactional_db: None) -> Iterator[None]:
    """The database as migrations leave it, without a transaction around the test.

    A lease must be visible to other connections at once, so these tests cannot be rolled back; the
    tables are emptied after each, and what the migrations put there is put back before.
    """
    restore_services()
    yield
    waiting.close()
    rush._refused_at.clear()
    # An async test's database work ran in asgiref's one thread, which keeps its connection.
    SyncToAsync.single_thread_executor.submit(lambda: connection.close()).result()  # noqa: PLW0108 - per thread
    connection.close()


@pytest.fixture
def api() -> APIClient:
    """A program without a cookie or a token: a stranger."""
    return APIClient(raise_request_exception=False)


@pytest.fixture
def other() -> APIClient:
    """Somebody else."""
    return APIClient(raise_request_exception=False)

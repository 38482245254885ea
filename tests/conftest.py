from collections.abc import Iterator

import pytest
from _pytest.terminal import TerminalReporter
from asgiref.sync import SyncToAsync
from django.db import connection
from rest_framework.test import APIClient

from leases import waiting
from tests.database import restore_services


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="The fault suite with all its counts.")


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """The figures that tests measured, at the end of the run."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name == "figure" and report.when == "call":
                    terminalreporter.write_line(f"figure: {text}")


@pytest.fixture
def leases(transactional_db: None) -> Iterator[None]:
    """The database as migrations leave it, without a transaction around the test.

    A lease must be visible to other connections at once, so these tests cannot be rolled back; the
    tables are emptied after each, and what the migrations put there is put back before.
    """
    restore_services()
    yield
    waiting.close()
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

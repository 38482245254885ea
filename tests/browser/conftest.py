"""A real browser in front of a real server.

The browser is started once for all tests that follow one another; each has contexts of its own in it.
Playwright's event loop runs in the tests' thread as long as the browser does, so they ask the database by
`database`, in another thread, and what pytest-django does there between them has to be allowed.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from leases.database import returning
from tests.server import PRODUCTION, running_server

# The one without a window's machinery takes half the processor time.
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")


@pytest.fixture
def server(leases: None) -> Iterator[str]:
    """The base URL of a server with the real engines, on the test's database."""
    with running_server(**PRODUCTION) as base:
        yield base


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    with pytest.MonkeyPatch.context() as here, sync_playwright() as playwright:
        here.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def faults() -> list[str]:
    """What a watched page did that it must not; a test may take out what it expects."""
    return []


def forgive(faults: list[str], status: int) -> None:
    """Chromium complains of every answer that is an error; one was expected."""
    faults[:] = [fault for fault in faults if f"status of {status}" not in fault]


@pytest.fixture
def new_page(server: str, browser: Browser, faults: list[str]) -> Iterator[Callable[..., Page]]:
    """A function that opens a page of somebody else, with any options of Playwright's `new_context`."""
    with ExitStack() as contexts:

        def opened(**options: Any) -> Page:
            context = contexts.enter_context(browser.new_context(base_url=server, **options))
            context.set_default_timeout(15_000)
            _watch(context, server, faults)
            return context.new_page()

        yield opened
    assert faults == []


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A page in a context of its own, which may neither complain nor ask another host."""
    return new_page()


@pytest.fixture
def database() -> Iterator[Callable[..., Any]]:
    """A function that calls another one with its arguments, where the database may be asked."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda function, *args, **kwargs: thread.submit(returning, function, *args, **kwargs).result()


@pytest.fixture
def barriers() -> Callable[[Page], str]:
    """A function that gives axe-core's report on a page, empty if it finds nothing."""

    def found(page: Page) -> str:
        results = Axe().run(page)
        return results.generate_report() if results.violations_count else ""

    return found


def _watch(context: BrowserContext, server: str, faults: list[str]) -> None:
    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"{message.type}: {message.text}")

    context.on("console", said)
    context.on("weberror", lambda error: faults.append(f"page error: {error.error}"))
    context.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((f"{server}/", "data:", "blob:"))
            else faults.append(f"asked {request.url}")
        ),
    )

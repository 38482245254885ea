"""The operators' site in a browser: who holds what, and the end of it."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from leases import mutex
from leases.models import Hold, Lease, Operation

LLM = "lightweight-llm"
PASSWORD = "correct horse battery"


def sign_in(page: Page, database: Callable[..., Any]) -> None:
    database(User.objects.create_superuser, "olga", password=PASSWORD)
    page.goto("/admin/leases/service/")
    page.get_by_label("Username").fill("olga")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_an_operator_ends_a_session_and_the_next_in_the_queue_begins(
    new_page: Callable[..., Page], database: Callable[..., Any], barriers: Callable[[Page], str]
) -> None:
    ann = database(User.objects.create_user, "ann")
    database(mutex.acquire, LLM, f"user:{ann.pk}")
    visitor = new_page()
    visitor.goto("/")
    visitor.get_by_label("Your message").fill("Say yes.")
    visitor.get_by_label("Your message").press("Enter")
    expect(visitor.locator(".waiting")).to_be_visible()

    operator = new_page()
    sign_in(operator, database)
    row = operator.locator("#result_list tbody tr", has_text="Chat Service")
    expect(row).to_contain_text("ann")
    expect(row).to_contain_text("1 waiting")
    row.get_by_role("link", name="Force-release…").click()
    expect(operator.locator("#content")).to_contain_text("held by ann")
    operator.get_by_label("Reason").fill("She has gone home.")
    operator.get_by_role("button", name="Yes, end it").click()
    expect(operator.locator(".messagelist")).to_contain_text("Ended: Chat Service, held by ann")

    expect(visitor.locator(".message.assistant")).to_be_visible()
    record = database(Operation.objects.get)
    assert (record.actor, record.reason, record.subject) == ("olga", "She has gone home.", f"user:{ann.pk}")
    assert database(lambda: Hold.objects.filter(outcome="forced").exists())
    assert barriers(operator) == ""


def test_the_overview_stays_right_by_itself(
    page: Page, database: Callable[..., Any], faults: list[str]
) -> None:
    sign_in(page, database)
    row = page.locator("#result_list tbody tr", has_text="Chat Service")
    expect(row).to_contain_text("free")
    database(mutex.acquire, LLM, "user:999")
    expect(row).to_contain_text("in use", timeout=15_000)
    everything = page.locator("#action-toggle")
    everything.check()  # the fresh rows, too
    expect(row.get_by_role("checkbox")).to_be_checked()
    everything.uncheck()
    row.get_by_role("checkbox").check()  # what somebody is about to act on does not change under them
    session = database(lambda: Lease.objects.get(service=LLM).session_id)
    database(mutex.force_release, LLM, session, by="x", reason="x")
    page.wait_for_timeout(6_000)
    expect(row).to_contain_text("in use")

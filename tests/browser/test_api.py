"""The API's pages in a real browser, under the site's own policy."""

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_description_is_a_page_on_which_requests_are_tried(
    new_page: Callable[..., Page], scheme: str
) -> None:
    page = new_page(color_scheme=scheme)
    page.goto("/api/docs")
    status = page.locator("#operations-services-services_status")
    status.locator(".opblock-summary-control").click()
    status.get_by_role("button", name="Try it out").click()
    status.get_by_role("button", name="Execute").click()
    answer = status.locator(".live-responses-table")
    expect(answer).to_contain_text("lightweight-llm")
    made = page.locator("#operations-conversations-create_conversation")
    made.locator(".opblock-summary-control").click()
    made.get_by_role("button", name="Try it out").click()
    made.get_by_role("button", name="Execute").click()
    expect(made.locator(".live-responses-table .response-col_status").nth(1)).to_have_text("201")


def test_a_request_is_sent_from_the_page_of_its_route(page: Page) -> None:
    page.goto("/api")
    page.get_by_role("link", name="/api/conversations").click()
    page.locator("textarea[name=_content]").fill(json.dumps({"title": "Cats and dogs"}))
    page.get_by_role("button", name="POST").click()
    expect(page.locator(".response-info")).to_contain_text("HTTP 201 Created")
    expect(page.locator(".response-info")).to_contain_text("Cats and dogs")


def test_a_file_is_uploaded_from_the_page_of_its_route(page: Page) -> None:
    page.goto("/api/RAG/upload")
    form = page.locator("#post-object-form")
    form.locator("input[type=file]").set_input_files(
        {"name": "tea.md", "mimeType": "text/markdown", "buffer": b"# Tea\n\nIt is steeped."}
    )
    form.get_by_role("button", name="POST").click()
    expect(page.locator(".response-info")).to_contain_text("HTTP 201 Created")
    page.goto("/api/documents")
    expect(page.locator(".response-info")).to_contain_text('"title": "tea"')

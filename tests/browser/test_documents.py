"""The documents pages in a real browser, with the real embedding model."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Dialog, FilePayload, Locator, Page, expect

from documents.models import Chunk, Document
from leases import mutex
from leases.models import Lease, Service
from tests.browser.conftest import forgive
from tests.documents import files

VECTORS = "vector-convert"
HOSTILE = "<img src=x onerror=document.title='broken'>.txt"

expect.set_options(timeout=20_000)
Database = Callable[..., Any]


def pdf(pages: int = 3, name: str = "Lease.pdf") -> FilePayload:
    return {"name": name, "mimeType": "application/pdf", "buffer": files.long_pdf(pages)}


def text(name: str, content: bytes = b"Green tea is steeped at 75 degrees for two minutes.") -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": content}


def choose(page: Page, *chosen: FilePayload) -> None:
    page.goto("/documents/")
    page.set_input_files("#file", list(chosen))


def row_of(page: Page, title: str) -> Locator:
    return page.locator(".document").filter(has=page.locator(".title", has_text=title))


def state(row: Locator, word: str) -> None:
    expect(row.locator(".chip")).to_have_text(word)


def remember_progress(page: Page) -> None:
    """Keep all that the rows ever said, since a conversion may be over before a test looks."""
    page.add_init_script(
        """window.seen = [];
        addEventListener("DOMContentLoaded", () => new MutationObserver(() => {
            for (const row of document.querySelectorAll("[data-state]")) {
                const bar = row.querySelector("progress");
                const said = row.querySelector("[data-show=doing]")?.textContent;
                if (said) window.seen.push([row.dataset.state, said, bar.value, bar.max]);
            }
        }).observe(document.body, { subtree: true, childList: true, attributes: true }));"""
    )


def drop(page: Page, name: str, content: str) -> None:
    """Drop a file on the page, as a file manager would."""
    transfer = page.evaluate_handle(
        """([name, content]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([content], name, { type: "text/plain" }));
            return transfer;
        }""",
        [name, content],
    )
    page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
    expect(page.locator("#drop[data-over]")).to_be_visible()
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def hold(database: Database, owner: str = "somebody") -> mutex.Grant:
    grant: mutex.Grant = database(mutex.acquire, VECTORS, owner)
    return grant


def test_a_pdf_is_uploaded_converted_read_and_deleted(page: Page, database: Database) -> None:
    remember_progress(page)
    choose(page, pdf(12))
    row = row_of(page, "Lease")
    state(row, "Ready")
    seen = page.evaluate("window.seen")
    chunks = database(Chunk.objects.count)
    assert any(kind == "uploading" for kind, *_ in seen)
    counted = [(value, most) for kind, said, value, most in seen if re.match(r"Chunk \d+ of \d+$", said)]
    assert (chunks, chunks) in counted
    assert any(0 < value < most for value, most in counted)
    expect(page.locator("#news")).to_have_text("“Lease” is converted.")
    expect(page.locator("#total")).to_have_text("1")

    row.get_by_role("link", name="Lease").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Lease")
    expect(page.locator(".facts")).to_contain_text("all-MiniLM-L6-v2")
    link = page.get_by_role("link", name=re.compile(r"^Chunk \d+, page 2")).first
    link.click()
    chosen = page.locator(str(link.get_attribute("href")))
    expect(chosen).to_have_class(re.compile("current"))
    expect(chosen).to_be_in_viewport()
    expect(page.locator(".chunks [aria-current]")).to_have_count(1)
    assert chosen.evaluate("element => getComputedStyle(element).backgroundColor") != "rgba(0, 0, 0, 0)"

    page.get_by_role("button", name="Convert again").click()
    expect(page.locator(".toast")).to_contain_text("already had these vectors")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Cancel").click()
    assert database(Document.objects.count) == 1
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.locator(".notice")).to_have_text("“Lease” is deleted.")
    assert database(Document.objects.count) == 0


def test_many_files_of_a_new_visitor_are_all_theirs(
    page: Page, database: Database, faults: list[str]
) -> None:
    choose(page, *(text(f"note {n}.txt") for n in range(4)), text("photo.png", files.picture()))
    for n in range(4):
        state(row_of(page, f"note {n}"), "Ready")
    refused = row_of(page, "photo.png")
    expect(refused.locator(".problem")).to_contain_text("other kinds cannot be read here")
    expect(refused.get_by_role("button", name="Retry")).to_be_hidden()  # it would be refused again
    refused.get_by_role("button", name="Dismiss").click()
    expect(page.locator(".document")).to_have_count(4)
    forgive(faults, 400)
    page.reload()
    expect(page.locator(".document")).to_have_count(4)
    assert database(lambda: Document.objects.values("owner").distinct().count()) == 1


def test_a_hostile_name_is_inert_and_delete_asks_first(page: Page, database: Database) -> None:
    page.goto("/documents/")
    drop(page, HOSTILE, "<script>document.title = 'broken'</script> harmless words")
    row = row_of(page, "onerror")
    state(row, "Ready")
    page.reload()
    expect(row.locator(".title")).to_have_text(HOSTILE.removesuffix(".txt"))
    row.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text("onerror")
    page.get_by_role("button", name="Cancel").click()
    row.get_by_role("link").click()
    expect(page.locator(".text")).to_contain_text("<script>")
    assert page.locator("main img, main script").count() == 0
    page.go_back()
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    expect(row).to_have_count(0)
    expect(page.locator("#empty")).to_be_visible()
    assert database(Document.objects.count) == 0
    assert "broken" not in page.title()


def test_text_is_pasted_and_what_is_wrong_with_it_is_said(page: Page, faults: list[str]) -> None:
    page.goto("/documents/")
    page.get_by_text("Paste text instead").click()
    page.get_by_label("Title").fill("Tea")
    page.get_by_label("Text", exact=True).fill("   ")
    page.get_by_role("button", name="Add the text").click()
    expect(page.locator("#paste-problem")).to_have_text("Content is required")
    forgive(faults, 400)
    page.get_by_label("Text", exact=True).fill("Green tea is steeped at 75 degrees.")
    page.get_by_role("button", name="Add the text").click()
    state(row_of(page, "Tea"), "Ready")
    page.reload()
    page.get_by_label("Search your documents by meaning").fill("how hot is the tea")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".results mark")).to_have_text("tea")
    page.locator(".results").get_by_role("link", name="Tea").click()
    expect(page.locator("#chunk-0")).to_have_class(re.compile("current"))


def test_two_browsers_wait_in_line_and_start_by_themselves(
    page: Page, new_page: Callable[..., Page], database: Database
) -> None:
    grant = hold(database)
    choose(page, text("first.txt"))
    first = row_of(page, "first")
    expect(first.locator("[data-show=doing]")).to_contain_text("You are next in line")
    expect(page.locator(".toast")).to_contain_text("The conversion service is busy.")
    expect(page.locator("#news")).to_contain_text("You are next in line")
    assert "in line" in page.title()
    other = new_page()
    choose(other, text("second.txt"), text("third.txt"))
    second = row_of(other, "second")
    expect(second.locator("[data-show=doing]")).to_contain_text("You are 2nd in line")

    page.reload()  # the place is kept, and taken up again
    expect(first.locator("[data-show=doing]")).to_contain_text("You are next in line")
    first.get_by_role("button", name="Leave the queue").click()
    state(first, "Not converted")
    expect(first.get_by_role("button", name="Convert")).to_be_focused()
    expect(second.locator("[data-show=doing]")).to_contain_text("You are next in line")
    first.get_by_role("button", name="Convert").click()
    expect(first.locator("[data-show=doing]")).to_contain_text("in line")
    database(mutex.release, grant)
    for row in (first, second, row_of(other, "third")):
        state(row, "Ready")
    assert "in line" not in page.title()


def test_whoever_is_in_their_own_way_is_told(page: Page, database: Database) -> None:
    choose(page, text("first.txt"))
    state(row_of(page, "first"), "Ready")
    grant = hold(database, database(lambda: Document.objects.get().owner))
    page.set_input_files("#file", text("second.txt"))
    second = row_of(page, "second")
    expect(second.locator("[data-show=doing]")).to_contain_text(
        "You are already using the conversion service"
    )
    database(mutex.release, grant)
    state(second, "Ready")


def test_an_upload_that_a_lost_connection_ended_is_sent_again(page: Page, faults: list[str]) -> None:
    page.goto("/documents/")
    page.context.set_offline(True)
    page.set_input_files("#file", text("tea.txt"))
    row = row_of(page, "tea")
    state(row, "Failed")
    expect(row.locator(".problem")).to_contain_text("cannot be reached")
    page.context.set_offline(False)
    row.get_by_role("button", name="Retry").click()
    state(row, "Ready")
    faults.clear()  # the browser's own words about it


def test_a_service_that_is_switched_off_says_so_and_may_be_asked_again(
    page: Page, database: Database, faults: list[str]
) -> None:
    sentence = "Conversions rest on Sundays. Please come back on Monday."
    off = Service.objects.filter(pk=VECTORS)
    database(off.update, enabled=False, disabled_message=sentence)
    choose(page, text("tea.txt"))
    row = row_of(page, "tea")
    state(row, "Failed")
    expect(row.locator(".problem")).to_have_text(sentence)
    expect(page.locator(".toast.busy")).to_contain_text(sentence)
    forgive(faults, 503)
    database(off.update, enabled=True)
    row.get_by_role("button", name="Retry").click()
    state(row, "Ready")


def test_a_conversion_that_an_operator_ends_says_so_in_the_viewer(page: Page, database: Database) -> None:
    grant = hold(database)
    choose(page, pdf(60))
    row_of(page, "Lease").get_by_role("button", name="Leave the queue").click()
    row_of(page, "Lease").get_by_role("link", name="Lease").click()
    database(mutex.release, grant)
    page.get_by_role("button", name="Convert").click()
    expect(page.locator("[data-show=doing]")).to_contain_text(re.compile(r"Chunk [1-9]"))
    session = database(lambda: Lease.objects.live().get(service=VECTORS).session_id)
    assert database(mutex.force_release, VECTORS, session, by="ann", reason="needed elsewhere")
    expect(page.locator(".problem")).to_contain_text("Your session was ended by an administrator.")
    state(page.locator("#document"), "Failed")
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("button", name="Stop").click()
    state(page.locator("#document"), "Not converted")


def test_a_link_leads_to_the_right_part_of_a_long_text(page: Page, database: Database) -> None:
    line = "The tenant pays the rent on the first day of each month and keeps the garden. "
    grant = hold(database)
    choose(page, text("long.txt", (line * 8_000).encode()))
    row = row_of(page, "long")
    expect(row.locator("[data-show=doing]")).to_contain_text("in line")
    address = row.get_by_role("link").get_attribute("href")
    page.goto(f"{address}#chunk-700")
    expect(page.locator("#chunk-700")).to_have_class(re.compile("current"))
    expect(page.locator("#chunk-700")).to_be_in_viewport()
    expect(page.locator("h2#text")).to_contain_text("part 2 of 4")
    page.get_by_role("navigation", name="Parts", exact=True).get_by_role("link", name="Next part").click()
    expect(page.locator("h2#text")).to_contain_text("part 3 of 4")
    page.goto(f"{address}#chunk-999999")
    expect(page.locator(".current")).to_have_count(0)
    database(mutex.release, grant)


def test_without_scripts_everything_is_a_form(new_page: Callable[..., Page]) -> None:
    page = new_page(java_script_enabled=False)
    choose(page, text("tea.txt"))
    page.get_by_role("button", name="Upload").click()
    expect(page.locator(".notice")).to_contain_text("“tea” is uploaded.")
    row_of(page, "tea").get_by_role("button", name="Convert").click()
    expect(page.locator(".notice")).to_contain_text("“tea” is converted")
    row_of(page, "tea").get_by_role("link").click()
    page.get_by_role("link", name=re.compile("^Chunk 1")).click()
    background = "element => getComputedStyle(element).backgroundColor"
    assert page.locator("#chunk-0").evaluate(background) != "rgba(0, 0, 0, 0)"
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".notice")).to_contain_text("“tea” is deleted.")


def test_more_is_shown_without_reloading(page: Page, database: Database) -> None:
    choose(page, text("tea.txt"))
    state(row_of(page, "tea"), "Ready")
    database(copy_documents, 60)
    page.reload()
    expect(page.locator(".document")).to_have_count(50)
    page.get_by_role("link", name="Show more").click()
    expect(page.locator(".document")).to_have_count(61)
    expect(page.get_by_role("link", name="Show more")).to_have_count(0)
    expect(page.locator(".document").nth(50).get_by_role("link")).to_be_focused()


def test_what_could_not_be_shown_can_be_asked_for_again(
    page: Page, database: Database, faults: list[str]
) -> None:
    choose(page, text("tea.txt"))
    state(row_of(page, "tea"), "Ready")
    database(copy_documents, 60)
    page.reload()
    page.route("**/documents/?*cursor=*", lambda route: route.fulfill(status=503), times=1)
    page.get_by_role("link", name="Show more").click()
    expect(page.locator(".toast")).to_contain_text("Please try again")
    forgive(faults, 503)
    page.get_by_role("link", name="Show more").click()
    expect(page.locator(".document")).to_have_count(61)


def test_what_was_deleted_in_another_tab_goes_here_too(
    page: Page, database: Database, faults: list[str]
) -> None:
    choose(page, text("tea.txt"))
    row = row_of(page, "tea")
    state(row, "Ready")
    database(Document.objects.all().delete)
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.locator(".toast")).to_contain_text("no such document")
    expect(row).to_have_count(0)
    expect(page.locator("#total")).to_have_text("0")
    forgive(faults, 404)


def test_whoever_leaves_in_the_middle_of_uploads_is_asked(page: Page) -> None:
    page.route("**/api/RAG/upload", lambda route: None)
    choose(page, text("tea.txt"))
    state(row_of(page, "tea"), "Uploading")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.evaluate("() => { location.href = '/status/'; }")
    page.wait_for_function("() => document.readyState === 'complete'")
    assert asked == ["beforeunload"]
    assert page.url.endswith("/documents/")


def copy_documents(count: int) -> None:
    document = Document.objects.get()
    for number in range(count):
        document.pk = None
        document.title = f"Copy {number}"
        document._state.adding = True
        document.save()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_there_are_no_barriers(
    new_page: Callable[..., Page],
    barriers: Callable[[Page], str],
    database: Database,
    scheme: str,
    faults: list[str],
) -> None:
    page = new_page(color_scheme=scheme)
    choose(page, text("notes.md", b"# Tea\n\nGreen tea is steeped at 75 degrees.\n"), text("a.png"), pdf())
    for title in ("notes", "Lease"):
        state(row_of(page, title), "Ready")
    state(row_of(page, "a.png"), "Failed")
    forgive(faults, 400)
    grant = hold(database)
    page.set_input_files("#file", text("waiting.txt"))
    expect(row_of(page, "waiting").locator("[data-show=doing]")).to_contain_text("You are next in line")
    page.get_by_text("Paste text instead").click()
    assert not barriers(page)
    database(mutex.release, grant)
    state(row_of(page, "waiting"), "Ready")
    address = row_of(page, "Lease").get_by_role("link").get_attribute("href")
    for path in ("/documents/?q=tea", f"{address}#chunk-1", "/documents/?search=nothing", "/nothing/"):
        page.goto(path)
        assert not barriers(page)
    forgive(faults, 404)

"""The chat page in a real browser."""

import asyncio
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, Route, expect

from chat.models import Conversation, Message, Role
from documents.models import Document
from leases import mutex
from leases.models import Hold, Lease, Ticket
from tests.browser.conftest import forgive
from tests.chat.scripted_engine_server import Call, ScriptedEngineServer
from tests.documents.files import pdf
from tests.server import PRODUCTION, running_server

Open = Callable[..., Page]
LLM = "lightweight-llm"
PHONE = {"viewport": {"width": 390, "height": 844}}
HOSTILE = (
    "<script>window.hacked = 1</script><img src='https://evil.example/x.png' onerror='window.hacked = 1'>"
    "![remote](https://evil.example/y.png) [click](javascript:window.hacked=1) "
    "<form action='https://evil.example'><input name=a></form>\n\n```python\nprint('safe')\n```\n\nThe end."
)


def send(page: Page, message: str) -> None:
    page.get_by_label("Your message").fill(message)
    page.get_by_label("Your message").press("Enter")


def said(database: Callable[..., Any]) -> list[str]:
    """What the database keeps of everybody's conversations, in its order."""
    contents: list[str] = database(lambda: list(Message.objects.values_list("content", flat=True)))
    return contents


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answered(page: Page) -> None:
    # The real model may go on to the longest of answers, on a machine that does much else.
    expect(page.locator("#send:enabled")).to_be_visible(timeout=180_000)


class TestRealModel:
    """The main way through, with the real default engines."""

    def test_a_question_is_answered_named_renamed_found_and_deleted(self, page: Page) -> None:
        page.goto("/")
        send(page, "What is the capital of France?")
        answered(page)
        said = page.locator(".message.assistant .prose")
        expect(said).not_to_be_empty()
        text = said.inner_text()
        expect(page.locator("#talks li")).to_have_text("What is the capital of France?")
        assert "/c/" in page.url
        page.reload()
        expect(said).to_have_text(text, use_inner_text=True)
        page.get_by_role("button", name="Rename").click()
        page.get_by_role("textbox", name="Title of the conversation").fill("Capitals")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#talks li")).to_have_text("Capitals")
        page.get_by_label("Search your conversations").fill("capital of fr")
        page.get_by_label("Search your conversations").press("Enter")
        expect(page.locator("#talks li")).to_have_text("Capitals")
        page.get_by_role("link", name="Capitals").click()
        with page.expect_download() as download:
            page.get_by_role("link", name="Markdown").click()
        assert download.value.suggested_filename == "capitals.md"
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Delete it").click()
        expect(page.locator("#talks")).to_contain_text("Your conversations will be here.")

    def test_a_pdf_is_dropped_asked_about_and_its_source_opened_at_the_passage(self, page: Page) -> None:
        line = "The tenant pays the rent on the first day of each month and keeps the garden in order"
        leave = "Every employee of Brightwater Mills gets 31 days of paid leave in a year."
        first = [("The house", 18.0, 20.0), *[(line, 11.0, 14.0)] * 40]
        second = [("Leave", 18.0, 20.0), (leave, 11.0, 14.0)]
        page.goto("/documents/")
        drop(page, "handbook.pdf", pdf([first, second]))
        row = page.locator(".document").filter(has_text="handbook")
        expect(row).to_contain_text("Ready", timeout=30_000)
        row.get_by_role("link", name="handbook").click()
        page.get_by_role("link", name="Ask about this document").click()
        expect(page.locator("#picked")).to_have_text("1 document")
        send(page, "How many days of paid leave does an employee get?")
        answered(page)
        source = page.locator(".sources a").first
        expect(source).to_contain_text("handbook, page 2")
        page.reload()
        expect(page.locator("#picked")).to_have_text("1 document")
        source.click()
        page.wait_for_url("**/documents/**#chunk-*")
        passage = page.locator(".segment.current")
        expect(passage.filter(has_text="31 days").first).to_be_in_viewport()

    def test_at_most_ten_documents_are_ticked(self, page: Page) -> None:
        page.goto("/")
        page.evaluate(
            """async () => {
                const headers = {"Content-Type": "application/json"};
                for (let n = 0; n < 11; n++) {
                    const body = JSON.stringify({title: `Note ${n}`, content: "Words.", contentType: "text"});
                    await fetch("/api/RAG/upload", {method: "POST", headers, body});
                }
            }"""
        )
        page.reload()
        page.locator("#picker summary").click()
        ticks = page.locator("#documents input")
        expect(ticks).to_have_count(11)
        for n in range(10):
            ticks.nth(n).check()
        ticks.nth(10).click()
        expect(page.locator(".toast")).to_contain_text("at most 10 documents")
        expect(ticks.nth(10)).not_to_be_checked()
        expect(page.locator("#picked")).to_have_text("10 documents")


def drop(page: Page, name: str, content: bytes) -> None:
    """Drop a file on the page, as from a folder."""
    transfer = page.evaluate_handle(
        """([name, encoded]) => {
            const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, {type: "application/pdf"}));
            return transfer;
        }""",
        [name, b64encode(content).decode()],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def say_much(count: int) -> None:
    """Go on with the only conversation, with so many messages."""
    conversation = Conversation.objects.get()
    roles = (Role.USER, Role.ASSISTANT)
    Message.objects.bulk_create(
        Message(conversation=conversation, role=roles[number % 2], content=f"message {number}.")
        for number in range(count)
    )


def with_newer_documents(count: int) -> UUID:
    """The id of the only document, when so many others of its owner have come after it."""
    document = Document.objects.get()
    oldest = document.pk
    for number in range(count):
        document.pk, document.title, document._state.adding = uuid4(), f"Newer {number}", True
        document.save()
    return oldest


class Slow:
    """An engine that says a word every 50 ms until it is told to finish; none before it may speak."""

    def __init__(self) -> None:
        self.text = "word "
        self.calls = 0
        self.speak = threading.Event()
        self.speak.set()
        self.finish = threading.Event()

    async def __call__(self, call: Call) -> None:
        self.calls += 1
        await call.begin()
        while not self.speak.is_set() and not call.hung_up.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await call.token(self.text)
        while not self.finish.is_set() and not call.hung_up.is_set():
            await asyncio.sleep(0.05)
            await call.token("word ")
        await call.finish({"prompt_tokens": 3, "completion_tokens": 3})


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def server(leases: None, slow: Slow, request: pytest.FixtureRequest) -> Iterator[str]:
    """The real engines for `TestRealModel`, the slow one for the rest."""
    if request.cls is TestRealModel:
        with running_server(**PRODUCTION) as base:
            yield base
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    engine = ScriptedEngineServer({"/v1/chat/completions": slow})
    asyncio.run_coroutine_threadsafe(engine.__aenter__(), loop).result(10)
    try:
        with running_server(
            CHAT_BASE_URL=engine.base_url,
            CHAT_MODEL="slow",
            CHAT_CONTEXT_WINDOW="2000",
            LEASE_TTL="3",
            LEASE_HEARTBEAT="0.3",
            SIGN_UP="True",
            **PRODUCTION,
        ) as base:
            yield base
    finally:
        slow.finish.set()
        asyncio.run_coroutine_threadsafe(engine.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def begin(page: Page, slow: Slow, *questions: str) -> None:
    """A new conversation in which these were asked, and answered at once."""
    slow.finish.set()
    page.goto("/")
    for question in questions:
        send(page, question)
        answered(page)


class TestTiming:
    def test_two_browsers_compete_and_the_second_starts_by_itself_when_the_first_stops(
        self, new_page: Open, database: Callable[..., Any]
    ) -> None:
        ann, bob = new_page(), new_page(**PHONE, color_scheme="dark")
        ann.goto("/")
        send(ann, "Tell me a long story")
        expect(ann.locator(".message.assistant")).to_contain_text("word word")
        bob.goto("/")
        send(bob, "Hello")
        expect(bob.locator(".waiting")).to_contain_text("You are next in line")
        expect(bob.locator(".toast")).to_contain_text("You are in line")
        assert bob.title().startswith("Next in line")
        bob.reload()  # keeps the place and the text
        expect(bob.locator(".waiting")).to_contain_text("You are next in line")
        expect(bob.locator(".message.user")).to_contain_text("Hello")
        assert database(Ticket.objects.count) == 1
        ann.get_by_role("button", name="Stop").click()
        expect(bob.locator(".message.assistant")).to_contain_text("word", timeout=3000)  # one, and room
        expect(ann.locator(".incomplete")).to_have_text("You stopped this answer.")
        assert not bob.title().startswith("Next")
        assert list(database(lambda: list(Hold.objects.values_list("outcome", flat=True)))) == ["released"]

    def test_who_leaves_the_queue_has_the_message_back(
        self, page: Page, database: Callable[..., Any]
    ) -> None:
        database(mutex.acquire, LLM, "somebody")
        page.goto("/")
        send(page, "My precious words")
        expect(page.locator(".waiting")).to_be_visible()
        page.get_by_label("Your message").fill("and what came to mind meanwhile")
        page.get_by_role("button", name="Leave the queue").click()
        answered(page)
        both = "My precious words\n\nand what came to mind meanwhile"
        expect(page.get_by_label("Your message")).to_have_value(both)
        expect(page.locator(".incomplete")).to_contain_text("You left the queue")
        page.reload()
        expect(page.get_by_label("Your message")).to_have_value(both)
        assert not database(lambda: Ticket.objects.live().exists())

    def test_a_forced_end_is_said_where_the_answer_would_be(
        self, page: Page, database: Callable[..., Any]
    ) -> None:
        def force() -> None:
            session_id = Lease.objects.live().get().session_id
            assert session_id is not None
            assert mutex.force_release(LLM, session_id, by="ops", reason="needed")

        page.goto("/")
        send(page, "Tell me a long story")
        expect(page.locator(".message.assistant")).to_contain_text("word")
        database(force)
        expect(page.locator(".message.assistant .incomplete")).to_contain_text("ended by an administrator")
        expect(page.locator(".toast")).to_contain_text("ended by an administrator")
        page.reload()
        expect(page.locator(".message.assistant .incomplete")).to_contain_text("incomplete")

    def test_the_second_tab_says_that_it_is_oneself(self, new_page: Open) -> None:
        first = new_page()
        first.goto("/")
        send(first, "Tell me a long story")
        expect(first.locator(".message.assistant")).to_contain_text("word")
        second = first.context.new_page()
        second.goto("/")
        send(second, "And another")
        expect(second.locator(".waiting")).to_contain_text(
            "You are already using the chat service in another tab"
        )

    def test_hostile_markdown_is_inert_and_code_can_be_copied(self, page: Page, slow: Slow) -> None:
        slow.text = HOSTILE
        begin(page, slow, "Be evil")
        said = page.locator(".message.assistant .prose")
        expect(said).to_contain_text("The end.")
        assert said.locator("script, img, form, input, iframe").count() == 0
        assert said.locator("a[href^='javascript']").count() == 0
        assert page.evaluate("window.hacked") is None
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        said.get_by_role("button", name="Copy").click()
        assert "print('safe')" in page.evaluate("navigator.clipboard.readText()")

    def test_a_site_without_https_copies_too(self, page: Page, slow: Slow) -> None:
        slow.text = "Some wisdom.\n\n```\nprint('safe')\n```\n\nThe end."
        slow.finish.set()
        page.add_init_script("Object.defineProperty(Navigator.prototype, 'clipboard', {value: undefined})")
        page.goto("/")
        send(page, "Say it")
        answered(page)
        box = page.get_by_label("Your message")
        page.locator(".code").get_by_role("button", name="Copy").click()
        expect(page.locator(".code button")).to_have_text("Copied")
        box.press("Control+V")
        expect(box).to_have_value("print('safe')\n")
        page.locator(".tools").get_by_role("button", name="Copy").click()
        expect(page.locator("#news")).to_have_text("Copied.")
        box.fill("")
        box.press("Control+V")
        expect(box).to_have_value(re.compile("^Some wisdom"))

    def test_a_document_that_is_not_listed_can_be_unticked(
        self, page: Page, database: Callable[..., Any]
    ) -> None:
        page.goto("/documents/")
        page.evaluate(
            """() => fetch("/api/RAG/upload", {method: "POST", headers: {"Content-Type": "application/json"},
                body: JSON.stringify({title: "The oldest", content: "Words.", contentType: "text"})})"""
        )
        page.goto(f"/?document={database(with_newer_documents, 100)}")
        expect(page.locator("#picked")).to_have_text("1 document")
        page.locator("#picker summary").click()
        tick = page.get_by_label("older than these, or deleted")
        expect(tick).to_be_checked()
        tick.uncheck()
        expect(page.locator("#picked")).to_have_text("Documents")
        expect(page.locator("#documents input")).to_have_count(101)

    def test_a_draft_survives_and_enter_while_composing_sends_nothing(self, page: Page) -> None:
        page.goto("/")
        box = page.get_by_label("Your message")
        box.fill("unfinished")
        box.press("Shift+Enter")
        box.press_sequentially("thoughts")
        page.reload()
        expect(box).to_have_value("unfinished\nthoughts")
        box.evaluate(
            "box => box.dispatchEvent(new KeyboardEvent('keydown',"
            " {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
        )
        expect(page.locator(".message")).to_have_count(0)

    def test_a_message_is_replaced_though_its_id_is_still_on_its_way(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        held: list[Route] = []

        def hold_the_first(route: Route) -> None:
            if route.request.method == "GET" and not held:
                held.append(route)
            else:
                route.continue_()

        page.route("**/api/conversations/*", hold_the_first)
        slow.finish.set()
        page.goto("/")
        send(page, "first")
        page.get_by_role("button", name="Edit").click()
        expect(page.get_by_label("Your message")).to_have_value("first")
        assert held
        send(page, "second")
        until(lambda: said(database) == ["second", slow.text.strip()])
        held[0].continue_()
        answered(page)
        page.reload()
        expect(page.locator(".message.user")).to_contain_text("second")
        expect(page.locator(".message")).to_have_count(2)

    def test_an_edited_message_stays_until_it_is_answered_anew(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        begin(page, slow, "first")
        box = page.get_by_label("Your message")
        page.get_by_role("button", name="Edit").click()
        expect(page.locator("#editing")).to_contain_text("Sending replaces your message")
        page.get_by_role("button", name="Keep it as it is").click()
        expect(box).to_have_value("")
        expect(page.locator("#editing")).to_be_hidden()
        grant = database(mutex.acquire, LLM, "somebody")
        page.get_by_role("button", name="Edit").click()
        send(page, "second")
        page.get_by_role("button", name="Leave the queue").click()
        expect(page.locator(".message.user")).to_contain_text("first")
        expect(box).to_have_value("second")
        expect(page.locator("#editing")).to_be_visible()
        assert said(database)[0] == "first"
        box.press("Enter")
        expect(page.locator(".waiting")).to_be_visible()
        database(mutex.release, grant)
        answered(page)
        expect(page.locator(".message.user")).to_have_text("second\nEdit", use_inner_text=True)
        expect(page.locator("#editing")).to_be_hidden()
        assert said(database)[0] == "second"
        assert len(said(database)) == 2
        page.get_by_role("button", name="Edit").click()
        box.press("Escape")
        send(page, "third")
        expect(page.locator(".message.user")).to_have_count(2)
        answered(page)

    def test_edit_and_retry(self, page: Page, slow: Slow) -> None:
        begin(page, slow, "first")
        with page.expect_request("**/api/lightweight-llm/chat"):
            page.get_by_role("button", name="Retry").click()
        answered(page)
        expect(page.locator(".message")).to_have_count(2)
        page.get_by_role("button", name="Edit").click()
        expect(page.get_by_label("Your message")).to_have_value("first")
        send(page, "second")
        answered(page)
        expect(page.locator(".message.user")).to_have_count(1)
        page.reload()
        expect(page.locator(".message.user")).to_contain_text("second")
        expect(page.locator(".message")).to_have_count(2)

    def test_after_an_export_there_is_more_to_be_said(self, page: Page, slow: Slow) -> None:
        begin(page, slow, "first")
        for kind in ("Markdown", "JSON"):
            with page.expect_download():
                page.get_by_role("link", name=kind).click()
        send(page, "second")
        expect(page.locator(".message.assistant .prose")).to_have_count(2)
        answered(page)
        expect(page.locator(".message.user").nth(1).get_by_role("button", name="Edit")).to_be_visible()

    def test_to_ask_again_what_was_not_answered_takes_back_nothing_else(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        begin(page, slow, "hello")
        grant = database(mutex.acquire, LLM, "somebody")
        send(page, "hello")
        page.get_by_role("button", name="Leave the queue").click()
        answered(page)
        page.get_by_role("button", name="Retry").nth(1).click()
        expect(page.locator(".waiting")).to_be_visible()
        assert database(Message.objects.count) == 2
        database(mutex.release, grant)
        answered(page)
        expect(page.locator(".message")).to_have_count(4)
        assert database(Message.objects.count) == 4

    def test_ids_that_come_late_are_not_those_of_the_next_question(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        held: list[Callable[[], None]] = []

        def hold(route: Route) -> None:
            if route.request.method == "GET" and not held:
                response = route.fetch()
                held.append(lambda: route.fulfill(response=response))
            else:
                route.continue_()

        slow.finish.set()
        page.route("**/api/conversations/*", hold)
        page.goto("/")
        send(page, "hello")
        answered(page)
        grant = database(mutex.acquire, LLM, "somebody")
        send(page, "hello")
        expect(page.locator(".waiting")).to_be_visible()
        with page.expect_response("**/api/conversations/*"):
            held[0]()
        page.get_by_role("button", name="Leave the queue").click()
        answered(page)
        database(mutex.release, grant)
        page.get_by_role("button", name="Retry").nth(1).click()
        expect(page.locator(".message")).to_have_count(4)
        answered(page)
        until(lambda: database(Message.objects.count) == 4)

    def test_an_answer_stays_until_there_is_another(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        slow.text = "The old answer. "
        begin(page, slow, "first")
        grant = database(mutex.acquire, LLM, "somebody")
        page.get_by_role("button", name="Retry").click()
        page.get_by_role("button", name="Leave the queue").click()
        expect(page.locator(".message.assistant")).to_contain_text("The old answer.")
        expect(page.locator(".message")).to_have_count(2)
        page.get_by_role("button", name="Retry").click()
        expect(page.locator(".waiting")).to_be_visible()
        page.reload()
        expect(page.locator(".waiting")).to_be_visible()
        assert database(Message.objects.count) == 2
        slow.text = "The new answer. "
        database(mutex.release, grant)
        expect(page.locator(".message.assistant").last).to_contain_text("The new answer.")
        answered(page)
        expect(page.locator(".message")).to_have_count(2)
        assert said(database) == ["first", "The new answer."]

    def test_what_another_tab_took_back_takes_nothing_newer_with_it(
        self, page: Page, slow: Slow, database: Callable[..., Any], faults: list[str]
    ) -> None:
        begin(page, slow, "first")
        other = page.context.new_page()
        other.goto(page.url)
        other.get_by_role("button", name="Edit").click()
        expect(other.get_by_label("Your message")).to_have_value("first")
        send(other, "second")
        answered(other)
        page.get_by_role("button", name="Retry").click()
        page.get_by_role("button", name="Replace it").click()
        expect(page.locator(".toast")).to_contain_text("not in the conversation any more")
        page.get_by_role("button", name="Edit").click()
        send(page, "third")
        page.get_by_role("button", name="Replace it").click()
        expect(page.locator(".toast")).to_have_count(2)
        expect(page.get_by_label("Your message")).to_have_value("third")
        assert database(lambda: Message.objects.filter(content="second").exists())
        forgive(faults, 404)

    def test_what_is_stopped_is_told_apart_from_the_same_before_it(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        page.goto("/")
        for count in (1, 2):
            send(page, "hello")
            expect(page.locator(".message.assistant .prose").nth(count - 1)).to_contain_text("word word")
            page.get_by_role("button", name="Stop").click()
            answered(page)
        until(lambda: len(said(database)) == 4)
        slow.finish.set()
        page.get_by_role("button", name="Retry").nth(1).click()
        until(lambda: database(Message.objects.filter(incomplete=True).count) == 1)
        answered(page)
        assert said(database)[::2] == ["hello", "hello"]
        expect(page.locator(".message")).to_have_count(4)

    def test_what_was_never_kept_is_replaced_with_what_was_said_after_it(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        slow.finish.set()
        page.goto("/")
        grant = database(mutex.acquire, LLM, "somebody")
        send(page, "never kept")
        page.get_by_role("button", name="Leave the queue").click()
        answered(page)
        database(mutex.release, grant)
        send(page, "kept")
        answered(page)
        page.get_by_role("button", name="Retry").first.click()
        page.get_by_role("button", name="Replace it").click()
        until(lambda: said(database)[::2] == ["never kept"])
        answered(page)
        expect(page.locator(".message")).to_have_count(2)

    def test_an_answer_of_blanks_loses_no_question(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        begin(page, slow, "first")
        slow.text = "\n"
        page.get_by_role("button", name="Edit").click()
        send(page, "second")
        expect(page.locator(".toast")).to_be_visible()
        expect(page.get_by_label("Your message")).to_have_value("second")
        expect(page.locator("#editing")).to_be_visible()
        expect(page.locator(".message.user")).to_contain_text("first")
        assert said(database)[0] == "first"

    def test_what_was_kept_unheard_is_shown(
        self, page: Page, slow: Slow, database: Callable[..., Any], faults: list[str]
    ) -> None:
        """The connection breaks when the answer is made and none of it has come."""
        begin(page, slow, "first")

        def breaks(route: Route) -> None:
            route.fetch()
            route.abort()

        page.route("**/api/lightweight-llm/chat", breaks)
        page.get_by_role("button", name="Edit").click()
        send(page, "second")
        expect(page.locator(".message.user:visible")).to_contain_text("second")
        expect(page.locator(".message")).to_have_count(2)
        expect(page.get_by_label("Your message")).to_have_value("")
        assert said(database)[0] == "second"
        faults.clear()  # the browser's own words about it

    def test_editing_outlives_a_reload(self, page: Page, slow: Slow, database: Callable[..., Any]) -> None:
        begin(page, slow, "first", "second")
        page.get_by_role("button", name="Edit").nth(1).click()
        page.get_by_label("Your message").fill("third")
        page.reload()
        expect(page.locator("#editing")).to_be_visible()
        page.get_by_label("Your message").press("Enter")
        until(lambda: said(database)[::2] == ["first", "third"])
        answered(page)
        page.reload()
        expect(page.locator("#editing")).to_be_hidden()

    def test_what_another_tab_said_is_not_replaced_without_asking(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        begin(page, slow, "first")
        other = page.context.new_page()
        other.goto(page.url)
        send(other, "second")
        answered(other)
        page.get_by_role("button", name="Retry").click()
        page.get_by_role("button", name="Cancel").click()
        assert said(database)[::2] == ["first", "second"]

    def test_a_key_of_the_input_method_and_a_second_click_leave_what_is_edited(
        self, page: Page, slow: Slow
    ) -> None:
        begin(page, slow, "first")
        box = page.get_by_label("Your message")
        page.get_by_role("button", name="Edit").dblclick()
        expect(page.get_by_role("dialog")).to_have_count(0)
        box.fill("first and more")
        box.evaluate(
            "box => box.dispatchEvent(new KeyboardEvent('keydown',"
            " {key: 'Escape', isComposing: true, bubbles: true}))"
        )
        expect(box).to_have_value("first and more")
        expect(box).to_have_accessible_description(re.compile("Sending replaces"))
        box.press("Escape")
        expect(box).to_have_value("")

    def test_a_conversation_in_which_nothing_is_said_is_listed_while_something_waits_in_it(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        slow.finish.set()
        page.goto("/")
        grant = database(mutex.acquire, LLM, "somebody")
        send(page, "my first question")
        expect(page.locator(".waiting")).to_be_visible()
        page.goto("/documents/")
        page.goto("/")
        page.locator("#talks a").click()
        page.get_by_role("button", name="Leave the queue").click()
        answered(page)
        page.goto("/")
        page.locator("#talks a").click()
        expect(page.get_by_label("Your message")).to_have_value("my first question")
        page.get_by_label("Your message").fill("")
        page.goto("/")
        expect(page.locator("#talks li")).to_have_count(0)
        database(mutex.release, grant)

    def test_a_lost_connection_is_told_and_nothing_is_lost(self, page: Page, faults: list[str]) -> None:
        page.goto("/")
        page.context.set_offline(True)
        send(page, "Are you there?")
        expect(page.locator(".incomplete")).to_contain_text("cannot be reached")
        expect(page.get_by_label("Your message")).to_have_value("Are you there?")
        page.context.set_offline(False)
        faults.clear()  # the browser's own words about it

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("path", ["/", "/status/", "/sign-in/", "/sign-up/"])
    def test_axe_finds_no_barrier(
        self, new_page: Open, barriers: Callable[[Page], str], scheme: str, path: str, slow: Slow
    ) -> None:
        slow.finish.set()
        page = new_page(color_scheme=scheme)
        page.goto(path)
        if path == "/":
            send(page, "Hello")
            answered(page)
        page.wait_for_load_state("networkidle")
        assert barriers(page) == ""


class TestLeaving:
    """What was asked outlives its page."""

    def test_a_question_without_a_word_of_its_answer_is_asked_again(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        slow.speak.clear()
        grant = database(mutex.acquire, LLM, "somebody")
        page.goto("/")
        send(page, "A long question")
        expect(page.locator(".waiting")).to_be_visible()
        database(mutex.release, grant)
        expect(page.locator(".waiting")).to_have_count(0)  # it has begun
        until(lambda: slow.calls == 1)
        page.reload()
        until(lambda: slow.calls == 2)
        expect(page.locator(".message.user")).to_contain_text("A long question")
        slow.finish.set()
        slow.speak.set()
        answered(page)
        expect(page.locator(".message.assistant")).to_contain_text("word")
        assert database(Message.objects.count) == 2

    def test_an_answer_that_had_begun_comes_to_the_page_by_itself(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        page.goto("/")
        send(page, "Tell me a long story")
        expect(page.locator(".message.assistant")).to_contain_text("word word")
        page.reload()
        expect(page.locator(".message.assistant .incomplete")).to_contain_text("incomplete")
        expect(page.locator(".message.user .prose")).to_have_text("Tell me a long story")
        expect(page.locator(".message")).to_have_count(2)
        assert slow.calls == 1
        page.reload()
        expect(page.locator(".message")).to_have_count(2)
        assert database(Message.objects.count) == 2

    def test_who_stays_after_all_goes_on(self, page: Page, slow: Slow) -> None:
        page.route("**/never/", lambda route: None)
        page.goto("/")
        send(page, "first")
        expect(page.locator(".message.assistant")).to_contain_text("word word")
        page.evaluate("() => { location.href = '/never/'; setTimeout(() => window.stop(), 100); }")
        answered(page)
        slow.finish.set()
        send(page, "second")
        expect(page.locator(".message.user")).to_have_count(2)
        answered(page)

    def test_of_two_tabs_in_line_the_one_that_took_over_keeps_the_place(
        self, page: Page, database: Callable[..., Any]
    ) -> None:
        database(mutex.acquire, LLM, "somebody")
        page.goto("/")
        send(page, "My question")
        expect(page.locator(".waiting")).to_contain_text("next in line")
        other = page.context.new_page()
        other.goto(page.url)
        expect(other.locator(".waiting")).to_contain_text("next in line")
        expect(page.locator(".incomplete")).to_contain_text("another window")
        other.reload()
        expect(other.locator(".waiting")).to_contain_text("next in line")

    def test_who_signs_out_leaves_no_draft(self, page: Page, database: Callable[..., Any]) -> None:
        database(User.objects.create_user, "ann", password="correct horse battery")
        page.goto("/sign-in/")
        page.get_by_label("Username").fill("ann")
        page.get_by_label("Password").fill("correct horse battery")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#picker")).to_be_visible()  # the page's scripts have run
        page.get_by_label("Your message").fill("my salary")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("link", name="Sign in")).to_be_visible()
        expect(page.locator("#picker")).to_be_visible()
        expect(page.get_by_label("Your message")).to_have_value("")


class TestHands:
    """What fingers and keys do besides."""

    def test_what_was_said_earlier_is_a_click_away(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        begin(page, slow, "the first of all")
        database(say_much, 250)
        page.reload()
        expect(page.locator(".message")).to_have_count(100)
        oldest = page.locator(".message").first
        expect(oldest.get_by_role("button", name="Edit")).to_be_attached()
        text = oldest.inner_text()
        page.get_by_role("link", name="Show earlier messages").click()
        expect(page.locator(".message")).to_have_count(200)
        expect(page.get_by_text(text, exact=True)).to_be_in_viewport()
        page.get_by_role("link", name="Show earlier messages").click()
        expect(page.locator(".message")).to_have_count(252)
        expect(page.get_by_role("link", name="Show earlier messages")).to_have_count(0)
        expect(page.locator("#scroll")).to_be_focused()  # so that keys go on scrolling
        expect(page.locator(".message.user .prose").first).to_have_text("the first of all")
        send(page, "the last of all")
        answered(page)
        expect(page.locator(".message")).to_have_count(254)

    def test_on_a_phone_what_is_said_is_in_sight(self, new_page: Open, slow: Slow) -> None:
        page = new_page(**PHONE)
        slow.text = "A paragraph.\n\n" * 60
        begin(page, slow, "first")
        send(page, "second")
        answered(page)
        last = page.locator(".message.assistant").nth(1).locator("p").last
        expect(last).to_be_in_viewport()
        page.reload()
        expect(last).to_be_in_viewport()

    def test_what_was_said_later_is_not_replaced_without_asking(
        self, page: Page, slow: Slow, database: Callable[..., Any]
    ) -> None:
        begin(page, slow, "first", "second")
        page.get_by_role("button", name="Retry").first.click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Edit").first.click()
        send(page, "third")
        page.get_by_role("button", name="Cancel").click()
        assert database(Message.objects.count) == 4
        expect(page.get_by_label("Your message")).to_have_value("third")
        page.get_by_label("Your message").press("Enter")
        page.get_by_role("button", name="Replace it").click()
        until(lambda: database(Message.objects.count) == 2)
        assert said(database)[0] == "third"

    def test_enter_saves_a_title(self, page: Page, slow: Slow) -> None:
        begin(page, slow, "hello")
        page.get_by_role("button", name="Rename").click()
        title = page.get_by_role("textbox", name="Title of the conversation")
        title.fill("Greetings")
        title.press("Enter")
        expect(page.locator("#talks li")).to_have_text("Greetings")
        page.get_by_role("button", name="Rename").click()
        title.fill("Nothing")
        page.get_by_role("button", name="Cancel").click()
        expect(title).to_be_hidden()
        expect(page.get_by_role("heading", level=1)).to_have_text("Greetings")

    def test_a_double_click_sends_and_does_not_stop(self, page: Page, slow: Slow) -> None:
        page.goto("/")
        page.get_by_label("Your message").fill("hello")
        page.get_by_role("button", name="Send").dblclick()
        expect(page.locator(".message.assistant")).to_contain_text("word word")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".incomplete")).to_have_text("You stopped this answer.")

    def test_the_end_of_an_answer_takes_nobodys_focus(self, page: Page, slow: Slow) -> None:
        page.goto("/")
        send(page, "hello")
        expect(page.locator(".message.assistant")).to_contain_text("word")
        search = page.get_by_label("Search your conversations")
        search.focus()
        slow.finish.set()
        answered(page)
        expect(page.get_by_role("button", name="Edit")).to_be_visible()
        expect(search).to_be_focused()

    def test_the_list_of_documents_closes_by_escape_and_by_a_click_elsewhere(self, page: Page) -> None:
        page.goto("/")
        summary, listed = page.locator("#picker summary"), page.get_by_text("Upload a document first")
        summary.click()
        expect(listed).to_be_visible()
        page.keyboard.press("Escape")
        expect(listed).to_be_hidden()
        expect(summary).to_be_focused()
        summary.click()
        expect(listed).to_be_visible()
        page.locator("#welcome").click()
        expect(listed).to_be_hidden()


class TestStatus:
    def test_the_status_page_is_live_and_says_when_the_connection_is_lost(
        self, page: Page, database: Callable[..., Any], faults: list[str]
    ) -> None:
        page.goto("/status/")
        card = page.locator(f"[data-service={LLM}]")
        expect(card).to_contain_text("Free")
        grant = database(mutex.acquire, LLM, "somebody")
        expect(card).to_contain_text("Busy", timeout=8000)
        expect(page.locator("#badge")).to_contain_text("Chat busy")
        database(mutex.release, grant)
        expect(card).to_contain_text("Free", timeout=8000)
        page.context.set_offline(True)
        expect(page.locator("#connection")).to_contain_text("The connection is lost", timeout=15_000)
        page.context.set_offline(False)
        expect(page.locator("#connection")).to_contain_text("Live", timeout=15_000)
        faults.clear()

    def test_of_many_tabs_one_asks(self, new_page: Open) -> None:
        first = new_page()
        first.goto("/status/")
        asked: list[str] = []
        first.context.on(
            "request", lambda request: asked.append(request.url) if "/api/services" in request.url else None
        )
        tabs = [first.context.new_page() for _ in range(7)]
        for tab in tabs:
            tab.goto("/status/")
        asked.clear()
        first.wait_for_timeout(9000)
        assert 1 <= len(asked) <= 8  # two or three rounds; eight tabs on their own would ask sixteen times
        for tab in tabs:
            expect(tab.locator("#connection")).to_have_text("Live.")

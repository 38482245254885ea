"""Make docs/screenshots/ anew: every page, light and dark, wide and narrow, with the real engines.

    python tests/browser/screenshots.py http://127.0.0.1:8000 [NAME PASSWORD]

against a server that somebody started (an empty database shows best), the admin too if an operator's name and
password are given. Look at them before you keep them.
"""

import shutil
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
SIZES = {"wide": (1280, 800), "phone": (390, 844)}
HANDBOOK = """# Staff handbook

## Leave

Every employee of Brightwater Mills gets 31 days of paid leave in a year. Leave that is not taken by
the end of March is lost.

## Bicycles

The company pays for the repair of bicycles that are used for the way to work.

## Working from home

Two days a week may be worked from home. Please tell your team by Friday which days you choose.
"""

Scheme = Literal["light", "dark"]


def main(base: str, *operator: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        state = prepare(browser, base)
        for scheme in ("light", "dark"):
            for size in SIZES:
                shoot(browser, base, scheme, size, state)
        queue(browser, base)
        if operator:
            admin(browser, base, *operator)
        browser.close()


def prepare(browser: Browser, base: str) -> dict[str, str]:
    """A visitor with a converted document and an answer about it; the addresses of both, and the cookies."""
    context = browser.new_context(base_url=base)
    page = context.new_page()
    page.goto("/documents/")
    document_id: str = page.evaluate(
        """async (content) => {
            const headers = {"Content-Type": "application/json"};
            const send = (path, body) => fetch(path, {method: "POST", headers, body: JSON.stringify(body)});
            const upload = {title: "Staff handbook", content, contentType: "markdown"};
            const made = await (await send("/api/RAG/upload", upload)).json();
            await send("/api/vector-convert-llm/process-document", {document_id: made.documentId});
            await send("/api/RAG/upload", {title: "Tea", content: "Green tea.", contentType: "text"});
            return made.documentId;
        }""",
        HANDBOOK,
    )
    page.goto(f"/?document={document_id}")
    ask(page, "Who pays for the repair of my bicycle?")
    page.wait_for_selector("#send:not([hidden])", timeout=60_000)
    page.wait_for_timeout(500)
    cookies = next(cookie["value"] for cookie in context.cookies() if cookie["name"] == "sessionid")
    return {"chat": page.url, "document": f"{base}/documents/{document_id}/#chunk-0", "session": cookies}


def shoot(browser: Browser, base: str, scheme: Scheme, size: str, state: dict[str, str]) -> None:
    width, height = SIZES[size]
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    context.add_cookies([{"name": "sessionid", "value": state["session"], "url": base}])
    page = context.new_page()
    pages = {
        "chat": state["chat"],
        "documents": f"{base}/documents/",
        "search": f"{base}/documents/?q=days+off+work",
        "viewer": state["document"],
        "status": f"{base}/status/",
        "sign-in": f"{base}/sign-in/",
    }
    for name, address in pages.items():
        page.goto(address)
        page.wait_for_timeout(1000)
        suffix = scheme if size == "wide" else f"phone-{scheme}"
        page.screenshot(path=FOLDER / f"{name}-{suffix}.png")
    context.close()


def queue(browser: Browser, base: str) -> None:
    """Somebody talks with the model, and somebody else waits."""
    talking = browser.new_page(base_url=base)
    talking.goto("/")
    ask(talking, "Tell me a very long story about a lighthouse.")
    talking.wait_for_timeout(700)
    width, height = SIZES["phone"]
    waiting = browser.new_page(
        base_url=base, color_scheme="dark", viewport={"width": width, "height": height}
    )
    waiting.goto("/")
    ask(waiting, "What is the capital of France?")
    waiting.wait_for_selector(".waiting")
    waiting.wait_for_timeout(400)
    waiting.screenshot(path=FOLDER / "queue-phone-dark.png")
    talking.click("#stop")


def admin(browser: Browser, base: str, name: str, password: str) -> None:
    """The overview while the model is in use and somebody waits, and the page before a session is ended."""
    talking, waiting = browser.new_page(base_url=base), browser.new_page(base_url=base)
    for page, message in ((talking, "Tell me a very long story about a lighthouse."), (waiting, "Hello.")):
        page.goto("/")
        ask(page, message)
        page.wait_for_timeout(700)
    operator = browser.new_page(base_url=base, viewport={"width": 1380, "height": 420})
    operator.goto("/admin/leases/service/")
    operator.get_by_label("Username").fill(name)
    operator.get_by_label("Password").fill(password)
    operator.get_by_role("button", name="Sign in").click()
    operator.wait_for_selector("#result_list")
    operator.screenshot(path=FOLDER / "admin-light.png")
    talking.click("#stop")


def ask(page: Page, message: str) -> None:
    page.get_by_label("Your message").fill(message)
    page.get_by_label("Your message").press("Enter")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), *sys.argv[2:])

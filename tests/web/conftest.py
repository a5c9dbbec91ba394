"""The page over real stores and servers, and one browser for all tests that need one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from playwright.sync_api import Browser, Page, expect, sync_playwright
from starlette.testclient import TestClient

from celery_batches_notify.web import status_page
from tests.support.servers import need

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SAME_SITE = {"sec-fetch-site": "same-origin"}
expect.set_options(timeout=30_000)
ALL = ("read", "retry", "cancel", "redeliver", "seal", "delete")


@pytest.fixture
def client_of(app: Celery) -> Iterator[Callable[..., TestClient]]:
    """Make a client of a page with these options."""
    made: list[TestClient] = []

    def make(**options: Any) -> TestClient:
        client = TestClient(status_page(app, **options), raise_server_exceptions=False)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(client_of: Callable[..., TestClient]) -> TestClient:
    """A client of a page that everybody may read."""
    return client_of()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for a file: Playwright's event loop runs in this thread, so no other may."""
    path = shutil.which("chromium")
    need("chromium", path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of the browser; nothing it loads may complain, ask for a dialog, or come from elsewhere."""
    context = browser.new_context(viewport={"width": 1100, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(30_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if is_bad(message) else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda r: complaints.append(r.url) if "//127.0.0.1:" not in r.url else None)
    yield page
    context.close()
    assert not complaints


def is_bad(message: Any) -> bool:
    """Whether what the console says is a fault of the page: not that what was asked for is not there."""
    asked_for = message.location.get("url", "").endswith("x" * 22)
    is_said = any(f"status of {status}" in message.text for status in (422, 503))
    return not asked_for and not is_said and "net::ERR" not in message.text


def accept(client: TestClient, path: str, **fields: str) -> Any:
    """Open a confirmation and send its form, with these fields in place of its own."""
    form = client.get(path)
    assert form.status_code == 200, form.text
    values = {name: value for name, value in inputs(form.text) if name != "typed"}
    return client.post(
        path.partition("?")[0], data={**values, **fields}, headers=SAME_SITE, follow_redirects=False
    )


def inputs(html: str) -> list[tuple[str, str]]:
    """The names and values of a page's hidden fields."""
    import re

    return re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', html)

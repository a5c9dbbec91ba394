"""Take the pictures of mails and chat messages in docs/images: mails as a browser shows them, chats drawn.

Run it again after a change to the mail: `python docs/screenshots.py [DIRECTORY]`. It needs the packages
of the `test` group and a `chromium` on the PATH.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from chat_drawings import draw_all
from playwright.sync_api import Browser, sync_playwright
from small_png import shrink

from celery_batches_notify.model import BatchStatus, Event, Failure, Notification, Origin
from celery_batches_notify.notifiers.email.body import write_digest
from celery_batches_notify.notifiers.email.html import write_html

STARTED = datetime(2026, 11, 23, 6, 0, 2, tzinfo=UTC)
BID = "kJ3fXoTq0Zy1nN8vWc5uRg"
Scheme = Literal["light", "dark"]
VIEWS: dict[str, tuple[int, Scheme]] = {
    "desktop": (640, "light"),
    "phone": (375, "light"),
    "phone-dark": (375, "dark"),
}
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def sample(event: Event, **changes: Any) -> Notification:
    """Make a notification about an import of 12,480 rows that took a good four minutes."""
    ended_at = STARTED + timedelta(minutes=4, seconds=12)
    values = {
        "bid": BID,
        "description": "Nightly import: customers and invoices",
        "tags": ("customer:42", "nightly"),
        "state": event,
        "total": 12_480,
        "pending": 0,
        "succeeded": 12_480,
        "failures": 0,
        "dead": 0,
        "created_at": STARTED,
        "complete_at": ended_at,
        "success_at": ended_at,
        "finish_at": ended_at,
    }
    return Notification(
        id=f"cb_{BID}_{event}_0",
        event=event,
        status=BatchStatus(**(values | changes)),
        url=f"https://ops.example.com/batches/{BID}",
        origin=Origin(
            name="billing", environment="production", app="billing", timezone=ZoneInfo("Europe/Berlin")
        ),
        read_at=ended_at,
    )


def fail(what: str, error_class: str, message: str, n: int) -> Failure:
    """Make one failure."""
    return Failure(
        task=f"billing.tasks.import_{what}",
        task_id=f"8f14e45f-ceea-467f-a2d1-4b1c9e0a7{n % 10}c{n % 10}",
        error_class=error_class,
        error_message=message,
        backtrace=None,
        retries=2,
        failed_at=STARTED + timedelta(seconds=40 + 31 * n),
    )


def samples() -> dict[str, Notification]:
    """Return the notifications to show, by the names of their pictures."""
    duplicate = "duplicate key <invoice_number>\nDETAIL: 2026-10442 already exists."
    failures = (
        *(fail("invoice", "django.db.utils.IntegrityError", duplicate, n) for n in range(15)),
        *(fail("customer", "ConnectionError", "the address service did not answer", n) for n in range(34)),
    )
    failed = {"succeeded": 12_431, "pending": 49, "failures": 49, "dead": 15, "failure_info": failures}
    late = {"succeeded": 9_207, "pending": 3_273, "failures": 34, "failure_info": failures[15:]}
    running = dict.fromkeys(("complete_at", "success_at", "finish_at"))
    return {
        "email-success": sample(Event.SUCCESS),
        "email-failure": sample(Event.COMPLETE, **failed, success_at=None, finish_at=None),
        "email-late": replace(
            sample(Event.DEADLINE, **late, **running),
            url=None,
            limit=timedelta(hours=2),
            read_at=STARTED + timedelta(hours=2, seconds=7),
        ),
    }


def main(directory: Path) -> None:
    """Write each sample as a phone and as a desktop show it, by day and by night, and the chats' drawings."""
    directory.mkdir(parents=True, exist_ok=True)
    shown = samples()
    progress = {"succeeded": 6_240, "pending": 6_240, "state": "running"}
    others = (
        replace(shown["email-late"], event=Event.STALL, read_at=STARTED + timedelta(hours=3)),
        sample(Event.PROGRESS, **progress, finish_at=None, complete_at=None, success_at=None),
        shown["email-success"],
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        for name, notification in shown.items():
            html = write_html(write_digest(notification))
            for view, (width, scheme) in VIEWS.items():
                take(browser, html, directory / f"{name}-{view}.png", width, scheme)
        for name, (width, html) in draw_all(shown["email-failure"], *others).items():
            take(browser, html, directory / f"{name}.png", width)
        browser.close()


def take(browser: Browser, html: str, path: Path, width: int, scheme: Scheme = "light") -> None:
    """Take one picture."""
    page = browser.new_page(viewport={"width": width, "height": 100}, color_scheme=scheme)
    page.set_content(html)
    path.write_bytes(shrink(page.screenshot(full_page=True)))
    page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")

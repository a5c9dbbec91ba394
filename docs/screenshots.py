"""Take the pictures of the mails in docs/images, as a browser shows them.

Run it again after a change to the mail: `python docs/screenshots.py [DIRECTORY]`. It needs the packages
of the `test` group and a `chromium` on the PATH.
"""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import sync_playwright

from celery_batches_notify.model import BatchStatus, Event, Failure, Notification
from celery_batches_notify.notifiers.email_body import write_digest
from celery_batches_notify.notifiers.email_html import write_html

STARTED = datetime(2026, 11, 23, 6, 0, 2, tzinfo=UTC)
BID = "kJ3fXoTq0Zy1nN8vWc5uRg"
VIEWS = {"desktop": (640, "light"), "phone": (375, "light"), "phone-dark": (375, "dark")}
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def sample(event: Event, *, succeeded: int, dead: int, failures: tuple[Failure, ...] = ()) -> Notification:
    """Make a notification about an import of 12,480 rows that took a good four minutes."""
    ended_at = STARTED + timedelta(minutes=4, seconds=12)
    total = 12_480
    status = BatchStatus(
        bid=BID,
        description="Nightly import: customers and invoices",
        tags=("customer:42", "nightly"),
        state=event,
        total=total,
        pending=total - succeeded,
        succeeded=succeeded,
        failures=total - succeeded,
        dead=dead,
        created_at=STARTED,
        complete_at=ended_at,
        success_at=ended_at,
        finish_at=ended_at,
        failure_info=failures,
    )
    url = f"https://ops.example.com/batches/{BID}"
    return Notification(id=f"cb_{BID}_{event}_0", event=event, status=status, url=url)


def samples() -> dict[str, Notification]:
    """Return the notifications to show, by the names of their pictures."""
    failures = tuple(
        Failure(
            task=f"billing.tasks.import_{what}",
            task_id=f"8f14e45f-ceea-467f-a2d1-4b1c9e0a7{n}c{n}",
            error_class=error_class,
            error_message=message,
            backtrace=None,
            retries=n,
            failed_at=STARTED + timedelta(seconds=40 + 31 * n),
        )
        for n, (what, error_class, message) in enumerate(
            [
                ("customer", "ValueError", "row 1207: 'zip' is empty, but the country is DE"),
                (
                    "invoice",
                    "IntegrityError",
                    "duplicate key <invoice_number>\nDETAIL: 2026-10442 already exists.",
                ),
            ]
        )
    )
    return {
        "email-success": sample(Event.SUCCESS, succeeded=12_480, dead=0),
        "email-failure": sample(Event.COMPLETE, succeeded=12_431, dead=7, failures=failures),
    }


def main(directory: Path) -> None:
    """Write each sample as a phone and as a desktop show it, by day and by night."""
    directory.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        for name, notification in samples().items():
            html = write_html(write_digest(notification))
            for view, (width, scheme) in VIEWS.items():
                page = browser.new_page(viewport={"width": width, "height": 400}, color_scheme=scheme)
                page.set_content(html)
                page.screenshot(path=directory / f"{name}-{view}.png", full_page=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")

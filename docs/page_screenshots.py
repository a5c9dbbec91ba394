"""Take the pictures of the status page in docs/images, as Chromium shows it, with batches made up for it.

Run it again after a change to the page: `python docs/page_screenshots.py [DIRECTORY]`. It needs the packages
of the `test` group, the extra `web` and a `chromium` on the PATH.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from celery import Celery
from playwright.sync_api import Browser, sync_playwright
from redis import Redis
from screenshots import QUIET
from small_png import shrink

sys.path.insert(0, str(Path(__file__).parents[1]))

from celery_batches_notify import Batch, Batches
from celery_batches_notify.engine import find_engine
from celery_batches_notify.membership import State
from celery_batches_notify.testing.server import embedded_server
from celery_batches_notify.web import status_page
from tests.web.scene import fail, make_batch, report, serving, write_states

MINUTE, HOUR = 60_000, 3_600_000
GRANTS = ("read", "retry", "cancel", "redeliver", "seal", "delete")
VIEWS = {
    "list": ("{}", 1100, "light"),
    "list-phone-dark": ("{}", 375, "dark"),
    "batch": ("{failing}", 1100, "light"),
    "batch-phone-dark": ("{failing}", 375, "dark"),
    "dead-dark": ("{dead}", 1100, "dark"),
    "family": ("{nightly}", 1100, "light"),
    "confirm": ("{dead}/retry", 720, "light"),
}


@contextmanager
def stage() -> Iterator[tuple[Celery, Redis]]:
    """Run a store, and an app with batches in it."""
    with embedded_server() as url:
        app = Celery("billing", broker="memory://", set_as_current=False)
        app.conf.update(
            batches_backend_url=url,
            batches_environment="production",
            batches_notifications={
                "email": {"to": "ops@example.com", "via": "test"},
                "webhook": {"url": "https://billing.example.com/hook"},
                "slack": {"url": "https://hooks.slack.com/services/x"},
            },
            task_default_queue=f"q{uuid4().hex}",
        )
        Batches(app)
        yield app, Redis.from_url(url)


def put(redis: Redis, batch: Batch, **ago_ms: int) -> None:
    """Move the times of a batch into the past."""
    now = int(time.time() * 1000)
    redis.hset(f"batches:{{{batch.bid}}}", mapping={name: now - ago for name, ago in ago_ms.items()})
    if "created_at" in ago_ms:
        redis.zadd("batches:index", {batch.bid: now - ago_ms["created_at"]})


def draw_curve(redis: Redis, batch: Batch, first_ms: int, last_ms: int, marks: int) -> None:
    """Give a batch the marks that its workers' reports leave."""
    now, rng, at = int(time.time() * 1000), random.Random(3), 0.0  # noqa: S311 - a drawing
    steps = [rng.uniform(0.5, 1.5) * (2.2 if 20 < k < 34 else 1) for k in range(marks)]
    fields = {"0": now - first_ms}
    for k, step in enumerate(steps, 1):
        at += step
        fields[str(k)] = int(now - first_ms + (first_ms - last_ms) * at / sum(steps))
    redis.hset(f"batches:{{{batch.bid}}}:curve", mapping=fields)


def make_dead(app: Celery, redis: Redis) -> Batch:
    """Make a batch that has ended with 312 dead members, most of them side by side."""
    rng = random.Random(7)  # noqa: S311 - a drawing
    batch = make_batch(app, 10_000, "Import addresses", tags=["customer:7"])
    dead = sorted([*range(4100, 4380), *rng.sample(range(4380, 10_000), 32)])
    errors = {}
    for i in dead:
        if i % 9:
            errors[i] = fail("KeyError", f"'zip' in row {i} of /in/rows.csv", line=41, code='row["zip"]')
        else:
            errors[i] = fail("Timeout", f"geo.example.com, row {i}: no answer", line=57, code="locate(row)")
    report(batch, dict.fromkeys(dead, State.DEAD), errors)
    write_states(redis, batch, 10_000, {State.DEAD: dead})
    put(redis, batch, created_at=5 * HOUR, sealed_at=5 * HOUR, death_at=5 * HOUR - 3 * MINUTE)
    put(redis, batch, complete_at=4 * HOUR, finish_at=4 * HOUR)
    draw_curve(redis, batch, 5 * HOUR, 4 * HOUR, 64)
    return batch


def play(app: Celery, redis: Redis) -> dict[str, str]:
    """Make the batches; return the bids of those that are shown."""
    rng = random.Random(5)  # noqa: S311 - a drawing
    done = make_batch(app, 48, "Import rows", tags=["customer:7"])
    report(done, dict.fromkeys(range(48), State.SUCCEEDED))
    put(redis, done, created_at=3 * HOUR, finish_at=3 * HOUR - 252_000, success_at=3 * HOUR - 252_000)
    nightly = make_batch(app, 2, "Nightly invoices", tags=["nightly"], keep_open=True)
    failing = Batch("EU invoices", tags=["nightly", "region:eu"], app=app, parent=nightly)
    failing.on("death", "slack").on("complete", "email").on("success", "webhook")
    failing.map(app.tasks["billing.tasks.send_invoice"], range(1000))
    retried = set(rng.sample(range(880), 62))
    dead = set(range(941, 953))
    states = {i: State.SUCCEEDED for i in range(930) if i not in retried}
    states |= dict.fromkeys(retried, State.FAILING) | dict.fromkeys(dead, State.DEAD)
    errors = {
        i: fail(
            "SMTPServerDisconnected",
            f"Connection unexpectedly closed: mx{i % 3}.example.com after {i} bytes",
            line=88,
            code="server.send(mail)",
        )
        for i in retried
    }
    for i in dead:
        errors[i] = fail("KeyError", "'vat'", line=41, code='rate = country["vat"]')
    errors[945] = fail("SoftTimeLimitExceeded", "SoftTimeLimitExceeded()", line=52, code="render(invoice)")
    report(failing, states, errors)
    put(redis, failing, created_at=21 * MINUTE, sealed_at=21 * MINUTE - 900, death_at=4 * MINUTE)
    draw_curve(redis, failing, 20 * MINUTE, 4_000, 56)
    store = find_engine(app).store
    store.settle_delivery(failing.bid, "death:0", "delivered", 1)
    us = Batch("US invoices", tags=["nightly", "region:us"], app=app, parent=nightly)
    us.map(app.tasks["billing.tasks.send_invoice"], range(400))
    report(us, dict.fromkeys(range(400), State.SUCCEEDED))
    put(redis, us, created_at=21 * MINUTE, finish_at=14 * MINUTE, success_at=14 * MINUTE)
    nightly.seal()
    report(nightly, dict.fromkeys((0, 1, 3), State.SUCCEEDED))  # its own members, and US invoices
    put(redis, nightly, created_at=22 * MINUTE)
    moving = make_batch(app, 900, "Resize product photos", tags=["shop"])
    report(moving, dict.fromkeys(range(377), State.SUCCEEDED))
    put(redis, moving, created_at=6 * MINUTE)
    draw_curve(redis, moving, 5 * MINUTE, 1000, 26)
    still = make_batch(app, 200, "Import rows", tags=["customer:42"])
    report(still, dict.fromkeys(range(197), State.SUCCEEDED))
    put(redis, still, created_at=51 * HOUR, reported_at=50 * HOUR)
    reminders = make_batch(app, 250, "Send reminders", tags=["mail"])
    report(
        reminders, dict.fromkeys(range(120), State.SUCCEEDED) | dict.fromkeys(range(120, 131), State.FAILING)
    )
    put(redis, reminders, created_at=2 * MINUTE)
    stopped = make_batch(app, 60, "Rebuild the search index")
    report(stopped, dict.fromkeys(range(25), State.SUCCEEDED))
    stopped.cancel()
    put(redis, stopped, created_at=26 * HOUR)
    broken = make_dead(app, redis)
    return {"failing": failing.bid, "nightly": nightly.bid, "dead": broken.bid}


def take(browser: Browser, url: str, path: Path, width: int, scheme: str) -> None:
    """Take one picture of a whole page."""
    page = browser.new_page(
        viewport={"width": width, "height": 300 if "retry" in url else 760},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    page.goto(url)
    page.locator("main").wait_for()
    for picture in page.locator("img:visible").all():
        picture.scroll_into_view_if_needed()
        picture.evaluate("node => node.decode()")
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=path, full_page=True, animations="disabled")
    page.close()


def main() -> None:
    """Take all pictures."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images"
    with stage() as (app, redis), sync_playwright() as playwright:
        bids = play(app, redis)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        with serving(status_page(app, access=GRANTS)) as url:
            for name, (which, width, scheme) in VIEWS.items():
                path = directory / f"page-{name}.png"
                redis.hset(f"batches:{{{bids['failing']}}}", "reported_at", int(time.time() * 1000))
                take(browser, f"{url}/{which.format('', **bids)}", path, width, scheme)
                path.write_bytes(shrink(path.read_bytes()))
        browser.close()


if __name__ == "__main__":
    main()

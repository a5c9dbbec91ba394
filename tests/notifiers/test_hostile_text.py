"""Hostile text on its way from the task that raised it to people: by a worker, every channel and the log.

The contract says the same of each channel alone, and `tests/cli` of the command line.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from celery import Celery

from celery_batches_notify import Batch
from celery_batches_notify.testing.server import embedded_server
from tests.support import samples
from tests.support.apps import open_app
from tests.support.channels import CHANNELS as HTTP_CHANNELS
from tests.support.channels import Channel, Mood, Visit
from tests.support.channels_email import EMAIL
from tests.support.own_notifiers import ESCAPES
from tests.support.servers import running_worker, wait_until

CHANNELS: list[Channel] = [*HTTP_CHANNELS, EMAIL]
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
TEXTS = [text for text in samples.HOSTILE if text.strip()]
SHOWN = 3  # failures that every channel shows


@pytest.fixture(scope="module")
def visits() -> Iterator[dict[str, Visit]]:
    """A receiver for every channel."""
    with ExitStack() as stack:
        yield {
            f"{channel.kind.name}:{channel.label}": stack.enter_context(channel.open(Mood.ACCEPTS))
            for channel in CHANNELS
        }


@pytest.fixture(scope="module")
def told(visits: dict[str, Visit]) -> Iterator[tuple[list[Batch], str]]:
    """Batches full of hostile text, after all notifications; and the worker's log."""
    notifications = {name: dict(visit.options) for name, visit in visits.items()}
    web = "https://ops.test/batches"
    with (
        embedded_server() as url,
        open_app(url, batches_notifications=notifications, batches_web_url=web) as app,
    ):
        environment = {"BATCHES_TEST_NOTIFICATIONS": json.dumps(notifications), "NO_PROXY": "127.0.0.1"}
        environment["BATCHES_TEST_WEB"] = web
        with running_worker(url, "prefork", **environment) as worker:
            batches = [start(app, visits, TEXTS[at : at + SHOWN]) for at in range(0, len(TEXTS), SHOWN)]
            for batch in batches:
                wait_until(lambda b=batch: all(c.state == "delivered" for c in b.status().callbacks))
            yield batches, Path(worker.log).read_text("utf-8", "replace")


def start(app: Celery, visits: dict[str, Visit], texts: list[str]) -> Batch:
    batch = Batch(texts[0][:1000], tags=[text[:50] for text in texts], app=app)
    for name in visits:
        batch.on("finish", name)
    batch.add(*(app.signature("proj.fail", (text,)) for text in texts))
    return batch


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.label)
def test_a_hostile_error_is_shown_everywhere_and_harmless(
    told: tuple[list[Batch], str], visits: dict[str, Visit], channel: Channel
) -> None:
    batches, _ = told
    visit = visits[f"{channel.kind.name}:{channel.label}"]
    assert visit.count() == len(batches)
    for is_harmless, written in visit.texts():
        is_harmless(written)


def test_our_lines_in_the_workers_log_are_lines_and_nothing_else(told: tuple[list[Batch], str]) -> None:
    _, log = told
    ours = [line for line in log.split("\n") if "(attempt 1 of 8): " in line]
    assert len(ours) >= len(CHANNELS)
    assert not [line for line in ours if UNSAFE.search(line)]


@pytest.mark.parametrize("fails", [False, True])
def test_a_notifiers_reply_is_one_line_in_both_logs(
    make_app: Callable[..., Celery], caplog: pytest.LogCaptureFixture, fails: bool
) -> None:
    app = make_app(batches_notifiers={"hostile": "tests.support.own_notifiers.Hostile"})
    batch = Batch(ESCAPES, app=app).on("complete", "hostile", fails=fails)
    batch.seal()
    with caplog.at_level(logging.INFO, logger="celery_batches_notify"):
        app._batches_extension.engine.attempts.run(batch.bid, "complete:0")
    (record,) = caplog.records
    (line,) = batch.deliveries()
    assert "]0;owned" in record.getMessage() and "]0;owned" in line.detail
    assert not UNSAFE.search(record.getMessage() + line.detail)
    assert record.getMessage().endswith(line.detail)

"""A sample notification, sent here and now through a configured channel."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery

from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.output import Output
from celery_batches_notify.errors import InvalidCallback
from celery_batches_notify.model import BatchStatus, Event, Failure, Notification
from celery_batches_notify.notifiers.base import send_once

BID = "sample-notification-00"


def send_sample(app: Celery, out: Output, *, channel: str, options: Sequence[str]) -> int:
    """Send a sample through a notifier or profile, and print the receiver's answer and how long it took.

    Raises:
        BatchesError: The channel or an option is wrong, or the sample did not arrive.
    """
    engine = engine_of(app)
    notifier = engine.registry.build(channel, read_options(options), stored=False)
    now = datetime.now(UTC)
    notification = Notification(
        id=f"cb_{BID}_complete_{time.time_ns()}",
        event=Event.COMPLETE,
        status=sample_status(now),
        url=engine.settings.page_of(BID),
        origin=engine.settings.origin,
        read_at=now,
    )
    began = time.monotonic()
    answer = send_once(notifier, notification)
    seconds = round(time.monotonic() - began, 2)
    return out.end(
        f"{channel}: {answer} ({seconds:.2f} s)", 0, channel=channel, answer=answer, seconds=seconds
    )


def read_options(words: Sequence[str]) -> dict[str, Any]:
    """Read `--name value` pairs; a value that is JSON is taken as JSON.

    Raises:
        InvalidCallback: A name or its value is missing.
    """
    if len(words) % 2 or any(not name.startswith("--") for name in words[::2]):
        raise InvalidCallback("give the options in pairs, such as --to me@example.com")
    return {
        name.removeprefix("--").replace("-", "_"): _read_value(value)
        for name, value in zip(words[::2], words[1::2], strict=True)
    }


def sample_status(now: datetime) -> BatchStatus:
    """A batch of 50 members; two failed and wait for their retry."""
    failures = tuple(
        Failure(
            task_id=f"00000000-0000-4000-8000-00000000000{n}",
            task="proj.tasks.import_row",
            error_class="ValueError",
            error_message=message,
            backtrace=None,
            retries=0,
            failed_at=now,
        )
        for n, message in enumerate(["This is a sample failure", "And this is another one"])
    )
    return BatchStatus(
        bid=BID,
        description="Sample batch",
        tags=("sample",),
        state="complete",
        total=50,
        pending=2,
        succeeded=48,
        failures=2,
        dead=0,
        created_at=now - timedelta(seconds=83),
        sealed_at=now - timedelta(seconds=82),
        complete_at=now,
        expires_at=now + timedelta(days=30),
        failure_info=failures,
    )


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

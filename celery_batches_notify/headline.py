"""Says how a batch goes, in one word and one sentence: in messages, on pages, in the terminal. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from celery_batches_notify.text import one_line

if TYPE_CHECKING:
    from celery_batches_notify.model import BatchStatus

NAME_CHARACTERS = 100

_EVENT_OF_STATE = {
    "success": "success",
    "cancelled": "cancel",
    "dead": "finish",
    "stalled": "stall",
    "complete": "complete",
    "running": "progress",
    "open": "progress",
}


class Verdict(StrEnum):
    """How a batch goes, in one of four colours."""

    SUCCEEDED = "succeeded"
    RUNNING = "running"
    FAILING = "failing"
    DEAD = "dead"

    @property
    def sign(self) -> str:
        """One character that needs no colour."""
        return {"succeeded": "✓", "running": "▸", "failing": "⚠", "dead": "✗"}[self]

    @property
    def colour(self) -> str:
        """Green, blue, amber or red as `#rrggbb`, chosen so that colour-blind people can distinguish them."""
        return {"succeeded": "#1a7f37", "running": "#0969da", "failing": "#d9a400", "dead": "#cf222e"}[self]


def headline(
    status: BatchStatus,
    event: str | None = None,
    *,
    now: datetime | None = None,
    limit: timedelta | None = None,
) -> str:
    """Return the one line that says how a batch goes, such as `✗ 15 of 50 failed for good: Import rows`.

    Args:
        status: The batch.
        event: The event that has just fired; None if that is unknown, as on a page.
        now: When the status was read; without it, the line leaves out durations that still grow. The time
            since the batch began is left out too once it has finished, because a retry comes days later.
        limit: The time of a `deadline` or `stall` callback.
    """
    sentence = describe(status, event, now=now, limit=limit)
    return f"{judge(status, event).sign} {sentence}: {name_of(status)}"


def name_of(status: BatchStatus) -> str:
    """Return the batch's description on one line, or its id."""
    return one_line(status.description, NAME_CHARACTERS) or status.bid


def judge(status: BatchStatus, event: str | None = None) -> Verdict:
    """Say in one word how a batch goes."""
    event = event or _EVENT_OF_STATE[status.state]
    if status.cancelled_at is not None and event != "success":
        return Verdict.FAILING
    if status.dead or status.cut_short or event == "death":
        return Verdict.DEAD
    if status.failures or event in ("cancel", "deadline", "stall"):
        return Verdict.FAILING
    return Verdict.RUNNING if status.pending or event == "progress" else Verdict.SUCCEEDED


def describe(
    status: BatchStatus,
    event: str | None = None,
    *,
    now: datetime | None = None,
    limit: timedelta | None = None,
) -> str:
    """Return the headline's sentence without the sign, the name and the full stop. See `headline`."""
    event = event or _EVENT_OF_STATE[status.state]
    if event == "success" or (event in ("complete", "finish") and not status.pending):
        return _describe_end(status)
    if event == "cancel" or status.cancelled_at is not None:
        return f"Cancelled, {_describe_successes(status)}"
    if event in ("complete", "finish", "death") and status.failures:
        return _describe_failures(status)
    if event == "death":
        return f"A batch inside it has a failure for good, {_describe_successes(status)}"
    if not status.total:
        return "No tasks yet"
    so_far = _describe_so_far(status, event, now, limit)
    failures = f", {_describe_failures(status, of='')}" if status.failures else ""
    return f"{so_far}, {_describe_successes(status)}{failures}"


def describe_duration(duration: timedelta) -> str:
    """Say a duration in its two largest units, such as `3 min 12 s`."""
    seconds = max(0.0, duration.total_seconds())
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, left = divmod(rest, 60)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next(i for i, (count, _) in enumerate(units) if count)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count)


def _describe_end(status: BatchStatus) -> str:
    if status.cut_short:
        return f"Not all of its calls were made; the {status.total:,} that were succeeded"
    if status.total == 0:
        return "There was nothing to do"
    return "The only task succeeded" if status.total == 1 else f"All {status.total:,} succeeded"


def _describe_so_far(status: BatchStatus, event: str, now: datetime | None, limit: timedelta | None) -> str:
    if event == "deadline":
        return f"Not finished within {describe_duration(limit)}" if limit else "Not finished in time"
    if event == "stall":
        still = now - status.moved_at if now and status.moved_at else limit
        return f"Nothing has moved for {describe_duration(still)}" if still else "Nothing moves"
    if status.state == "open" and event == "progress":
        return "Open: calls are still being added"
    is_first_run = status.finish_at is None
    after = f" after {describe_duration(now - status.created_at)}" if now and is_first_run else ""
    return f"{int(status.progress * 100)}% done{after}"


def _describe_successes(status: BatchStatus) -> str:
    return f"{status.succeeded:,} of {status.total:,} succeeded"


def _describe_failures(status: BatchStatus, of: str | None = None) -> str:
    """Return how many failed for good and how many will be retried; `of` replaces the total."""
    dead, failing = status.dead, status.failing
    if status.total == 1 and of is None:
        return "The only task failed for good" if dead else "The only task failed and will be retried"
    of = f" of {status.total:,}" if of is None else of
    if not dead:
        return f"{failing:,}{of} failed and will be retried"
    return f"{dead:,}{of} failed for good" + (f", {failing:,} will be retried" if failing else "")

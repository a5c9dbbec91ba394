"""What a mail tells of a batch, in words, and its plain text. Pure; the HTML shows the same digest."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from datetime import datetime

from celery_batches_notify.model import (
    FAILURE_MESSAGE_SENT,
    FAILURES_SENT,
    BatchStatus,
    Event,
    Failure,
    Notification,
)
from celery_batches_notify.notifiers.summary import Summary, Verdict, summarise
from celery_batches_notify.text import one_line, straighten

_LABELS: dict[str, str] = {
    Event.CANCEL: "Cancelled",
    Event.DEADLINE: "Late",
    Event.STALL: "Stalled",
    Event.PROGRESS: "Running",
    Event.DEATH: "Failed",
    Event.COMPLETE: "Complete with failures",
    Event.FINISH: "Finished with failures",
    Event.SUCCESS: "Succeeded",
}
_TITLE_CHARACTERS = 300
_NAME_CHARACTERS = 200
_LINE_BREAKS = re.compile(r"\r\n?|[\u2028\u2029]")
_NOT_SHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureDigest:
    """One failed task: which, what it raised, and the small print."""

    task: str
    error_class: str
    message: str
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """All that a mail says, escaped for nothing yet.

    Attributes:
        title: The batch's name.
        verdict: How it went; `label` says so in a word or two, `outcome` in a sentence.
        counts: Names and numbers, the four that everybody asks for.
        facts: Names and values: when, how long, which batch.
        failures: The first failures.
        more: How many others there are, in words, or nothing.
        link: The batch's page, or None.
        small_print: Who wrote this, and why.
        status: The numbers behind all of it.
    """

    title: str
    verdict: Verdict
    label: str
    outcome: str
    counts: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    failures: tuple[FailureDigest, ...]
    more: str
    link: str | None
    small_print: str
    status: BatchStatus


def write_subject(notification: Notification) -> str:
    """Return the subject: what happened to which batch, and how much of it failed."""
    title, status = summarise(notification).title, notification.status
    if status.failures and notification.event in (Event.COMPLETE, Event.FINISH):
        return f"{title}, {status.failures:,} of {status.total:,} failed"
    return title


def write_digest(notification: Notification) -> Digest:
    """Put a notification into the words of a mail."""
    status, summary = notification.status, summarise(notification)
    failures = tuple(_digest_failure(failure) for failure in status.failure_info[:FAILURES_SENT])
    unlisted = status.failures - len(failures)
    return Digest(
        title=one_line(status.description, _TITLE_CHARACTERS) or status.bid,
        verdict=summary.verdict,
        label=_label(notification.event, status),
        outcome=_outcome(notification.event, status),
        counts=(
            ("Total", f"{status.total:,}"),
            ("Succeeded", f"{status.succeeded:,}"),
            ("Failures", f"{status.failures:,}"),
            ("Dead", f"{status.dead:,}"),
        ),
        facts=_facts(summary, status),
        failures=failures,
        more=f"and {unlisted:,} more" if failures and unlisted > 0 else "",
        link=summary.url,
        small_print=_small_print(notification),
        status=status,
    )


def write_text(digest: Digest) -> str:
    """Return the plain text of the mail."""
    lines = [digest.title, "", f"{digest.label}. {digest.outcome}", ""]
    lines += [f"  {name:<10} {value:>9}" for name, value in digest.counts]
    lines += ["", *(f"  {name:<10} {value}" for name, value in digest.facts)]
    if digest.link:
        lines += ["", f"Open the batch: {digest.link}"]
    if digest.failures:
        lines += ["", "First failures"]
    for failure in digest.failures:
        said = ": ".join(filter(None, (failure.error_class, failure.message)))
        # the indent keeps a message of many lines from passing for the mail's own words
        lines += ["", f"  {failure.task}", textwrap.indent(said, "    ", lambda _: True)]
        lines += [f"  {failure.details}"]
    if digest.more:
        lines += ["", f"  {digest.more}"]
    return "\n".join([*lines, "", "-- ", digest.small_print, ""])


def _label(event: str, status: BatchStatus) -> str:
    if status.cancelled_at is not None:
        return _LABELS[Event.CANCEL]
    if status.pending == 0:
        return _LABELS[Event.SUCCESS]
    return _LABELS.get(event, event.capitalize())


def _outcome(event: str, status: BatchStatus) -> str:
    total, failures, dead = status.total, status.failures, status.dead
    waiting = status.pending - failures
    if total == 0:
        return "The batch was empty."
    if status.pending == 0:
        return "The only task succeeded." if total == 1 else f"All {total:,} tasks succeeded."
    if event == Event.DEATH:
        rest = f"; {_unrun(waiting)}" if waiting else ""
        return f"{_share(dead, total)} failed and will not be tried again{rest}."
    if waiting:
        failed = f", {failures:,} failed" if failures else ""
        return f"{_share(status.succeeded, total)} succeeded{failed}, {_unrun(waiting)}."
    ending = f"; {failures - dead:,} will be tried again, {dead:,} will not"
    if dead in (0, failures):
        ending = " and will not be tried again" if dead else " and will be tried again"
    return f"{_share(failures, total)} failed{ending}."


def _share(count: int, total: int) -> str:
    return (
        "The only task"
        if count == total == 1
        else f"{count:,} of {total:,} {'task' if total == 1 else 'tasks'}"
    )


def _unrun(waiting: int) -> str:
    return f"{waiting:,} {'has' if waiting == 1 else 'have'} not run yet"


def _facts(summary: Summary, status: BatchStatus) -> tuple[tuple[str, str], ...]:
    shared = (fact for fact in summary.facts if fact[0] in ("Took", "Tags"))
    return (("Started", _time(status.created_at)), *shared, ("Batch", status.bid))


def _digest_failure(failure: Failure) -> FailureDigest:
    parts = [
        f"attempt {failure.retries + 1:,}",
        _time(failure.failed_at) if failure.failed_at else "",
        f"task {one_line(failure.task_id, _NAME_CHARACTERS)}",
    ]
    message = _LINE_BREAKS.sub("\n", straighten(failure.error_message[:FAILURE_MESSAGE_SENT]))
    return FailureDigest(
        task=one_line(failure.task, _NAME_CHARACTERS),
        error_class=one_line(failure.error_class, _NAME_CHARACTERS),
        message=_NOT_SHOWN.sub("\ufffd", message).strip(),
        details=" · ".join(filter(None, parts)),
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S %Z}".rstrip()


def _small_print(notification: Notification) -> str:
    again = f", attempt {notification.attempt:,}: it may have come before" if notification.attempt > 1 else ""
    return f"Sent by celery-batches-notify for the event {notification.event} ({notification.id}{again})."

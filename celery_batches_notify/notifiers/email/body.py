"""Put a notification into the words of a mail, and write its plain text. The HTML shows the same digest."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from celery_batches_notify.failure_groups import FailureGroup, group_failures
from celery_batches_notify.headline import Verdict, describe, headline, judge
from celery_batches_notify.model import (
    FAILURE_MESSAGE_SENT,
    FAILURES_SENT,
    BatchStatus,
    Event,
    Notification,
)
from celery_batches_notify.notifiers.failures import FULL, restrict
from celery_batches_notify.notifiers.summary import (
    link_of,
    next_step,
    origin_facts,
    time_facts,
    write_time,
)
from celery_batches_notify.text import one_line, straighten

_LABELS: dict[str, str] = {
    Event.CANCEL: "Cancelled",
    Event.DEADLINE: "Late",
    Event.STALL: "Stalled",
    Verdict.SUCCEEDED: "Succeeded",
    Verdict.RUNNING: "Running",
    Verdict.FAILING: "Will be retried",
    Verdict.DEAD: "Failed",
}
_TITLE_CHARACTERS = 300
_NAME_CHARACTERS = 200
_LINE_BREAKS = re.compile(r"\r\n?|[\u2028\u2029]")
_NOT_SHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureDigest:
    """Failures of one kind: their number and class, the first one's message, and the small print."""

    title: str
    message: str
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """Everything that a mail says, not escaped yet.

    Attributes:
        headline: How it went, in one line.
        title: The batch's name.
        verdict: How it went; `label` says so in a word or two, `outcome` in a sentence.
        counts: Names and numbers: the four that everybody asks for.
        facts: Names and values: when, how long, which batch.
        failures: The most frequent failures.
        more: The number of other failures, in words, or empty.
        link: The batch's page, or None.
        next_step: The command that shows more, or empty if the batch has a page.
        small_print: The program that wrote the mail, and why.
        status: The batch's status.
    """

    headline: str
    title: str
    verdict: Verdict
    label: str
    outcome: str
    counts: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    failures: tuple[FailureDigest, ...]
    more: str
    link: str | None
    next_step: str
    small_print: str
    status: BatchStatus


def write_digest(notification: Notification, failures: str = FULL) -> Digest:
    """Put a notification into the words of a mail, with the part of its failures that readers may see."""
    notification = restrict(notification, failures)
    status, event = notification.status, notification.event
    verdict = judge(status, event)
    groups = group_failures(status.failure_info)[:FAILURES_SENT]
    unlisted = status.failures - sum(group.count for group in groups)
    link = link_of(notification)
    return Digest(
        headline=headline(status, event, now=notification.read_at, limit=notification.limit),
        title=one_line(status.description, _TITLE_CHARACTERS) or status.bid,
        verdict=verdict,
        label=_LABELS.get(_event_of_label(event, status), _LABELS[verdict]),
        outcome=describe(status, event, now=notification.read_at, limit=notification.limit),
        counts=(
            ("Tasks", f"{status.total:,}"),
            ("Succeeded", f"{status.succeeded:,}"),
            ("Will be retried", f"{status.failing:,}"),
            ("Failed for good", f"{status.dead:,}"),
        ),
        facts=(
            ("Started", write_time(notification, status.created_at)),
            *time_facts(notification),
            *origin_facts(notification),
            ("Batch", status.bid),
        ),
        failures=tuple(_digest_failures(notification, group, failures) for group in groups),
        more=f"and {unlisted:,} more" if groups and unlisted > 0 else "",
        link=link,
        next_step=next_step(notification, verdict) if failures == FULL and not link else "",
        small_print=_small_print(notification),
        status=status,
    )


def write_text(digest: Digest) -> str:
    """Return the plain text of the mail."""
    lines = [digest.headline, ""]
    lines += [f"  {name:<16} {value:>9}" for name, value in digest.counts]
    lines += ["", *(f"  {name:<16} {value}" for name, value in digest.facts)]
    if digest.link:
        lines += ["", f"Open the batch: {digest.link}"]
    if digest.next_step:
        lines += ["", f"See more: {digest.next_step}"]
    if digest.failures:
        lines += ["", "Failures"]
    for failure in digest.failures:
        lines += ["", f"  {failure.title}"]
        # indented, so that a message of many lines does not pass for the mail's own words
        lines += [textwrap.indent(failure.message, "    ", lambda _: True)] if failure.message else []
        lines += [f"  {failure.details}"] if failure.details else []
    if digest.more:
        lines += ["", f"  {digest.more}"]
    return "\n".join([*lines, "", "-- ", digest.small_print, ""])


def _event_of_label(event: str, status: BatchStatus) -> str:
    """Return the event that the label names; a success goes before a cancellation."""
    return Event.CANCEL if status.cancelled_at is not None and event != Event.SUCCESS else event


def _digest_failures(notification: Notification, group: FailureGroup, level: str) -> FailureDigest:
    first = group.first
    parts = [one_line(f"{first.error_class} in {first.task}", _NAME_CHARACTERS)]
    parts += [group.place] if group.place else []
    if level == FULL:
        count = f"attempt {first.retries + 1:,}"
        at = [write_time(notification, first.failed_at)] if first.failed_at else []
        parts += [count, *at, f"task {one_line(first.task_id, _NAME_CHARACTERS)}"]
    message = _LINE_BREAKS.sub("\n", straighten(first.error_message[:FAILURE_MESSAGE_SENT]))
    return FailureDigest(
        title=group.counted,
        message=_NOT_SHOWN.sub("\ufffd", message).strip(),
        details=" · ".join(parts),
    )


def _small_print(notification: Notification) -> str:
    again = f", attempt {notification.attempt:,}: it may have come before" if notification.attempt > 1 else ""
    return f"Sent by celery-batches-notify for the event {notification.event} ({notification.id}{again})."

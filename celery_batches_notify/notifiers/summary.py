"""Put a notification into words, before any markup: for chat messages; mails share its facts and its link."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from celery_batches_notify.bar import count_parts
from celery_batches_notify.failure_groups import FailureGroup, group_failures
from celery_batches_notify.headline import Verdict, describe_duration, headline, judge
from celery_batches_notify.model import BatchStatus, Event, Notification
from celery_batches_notify.notifiers.failures import FULL, restrict
from celery_batches_notify.text import one_line

GROUPS_SHOWN = 3
ERROR_CHARACTERS = 200
TAGS_SHOWN = 5
TAG_CHARACTERS = 40

_PAGE = re.compile(r"https?://[^\s<>\"'|\\^`{}]{1,500}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One notification in words. Every text is plain and on a single line: escape it before you use it.

    Attributes:
        verdict: How the batch goes.
        headline: The verdict in one line, with a sign and the batch's name.
        facts: Names and values: how many tasks, how long, where.
        errors: The most frequent errors, each `15 × Class in task: message of the first`.
        more_errors: The number of other failures.
        next_step: The command that shows more, or empty if the batch has a page.
        url: The batch's page, safe in any markup, or None.
        bid: The batch's id.
    """

    verdict: Verdict
    headline: str
    facts: tuple[tuple[str, str], ...]
    errors: tuple[str, ...]
    more_errors: int
    next_step: str
    url: str | None
    bid: str

    @property
    def sentence(self) -> str:
        """The facts on one line."""
        return " · ".join(f"{name}: {value}" for name, value in self.facts)

    @property
    def error_lines(self) -> tuple[str, ...]:
        """The most frequent errors and the number of others."""
        return (*self.errors, f"… and {self.more_errors:,} more") if self.more_errors else self.errors

    @property
    def lines(self) -> tuple[str, ...]:
        """Everything except the address, without markup."""
        return (self.headline, self.sentence, *self.error_lines, *filter(None, [self.next_step]))


def summarise(notification: Notification, failures: str = FULL) -> Summary:
    """Put a notification into words, with the part of its failures that the receiver may see."""
    notification = restrict(notification, failures)
    status, event = notification.status, notification.event
    verdict = judge(status, event)
    groups = group_failures(status.failure_info)
    shown = groups[:GROUPS_SHOWN]
    page = link_of(notification)
    return Summary(
        verdict=verdict,
        headline=headline(status, event, now=notification.read_at, limit=notification.limit),
        facts=(*count_tasks(status), *time_facts(notification), *origin_facts(notification)),
        errors=tuple(map(_describe, shown)),
        more_errors=max(0, status.failures - sum(group.count for group in shown)) if shown else 0,
        next_step=next_step(notification, verdict) if failures == FULL and not page else "",
        url=page,
        bid=status.bid,
    )


def link_of(notification: Notification) -> str | None:
    """Return the address of the part of the batch's page that matters, if it is safe in any markup."""
    if not notification.url or not _PAGE.fullmatch(notification.url):
        return None
    verdict = judge(notification.status, notification.event)
    if verdict in (Verdict.SUCCEEDED, Verdict.RUNNING):
        return notification.url
    is_named = verdict is Verdict.DEAD and notification.status.failure_info
    return notification.url + ("#failures" if is_named else "#why")


def next_step(notification: Notification, verdict: Verdict) -> str:
    """Return the command that shows more if there is something to do."""
    if verdict in (Verdict.SUCCEEDED, Verdict.RUNNING):
        return ""
    app = notification.origin.app
    return f"celery {f'-A {app} ' if app else ''}batch doctor {notification.status.bid}"


def count_tasks(status: BatchStatus) -> list[tuple[str, str]]:
    """Return how many tasks have succeeded, failed, will be retried, and wait."""
    of = f"{status.succeeded:,} of {status.total:,}" if status.total else "no tasks"
    counts = {
        "Failed for good": status.dead,
        "Will be retried": status.failing,
        "Not run yet": count_parts(status)["waiting"],
    }
    return [("Succeeded", of), *((name, f"{count:,}") for name, count in counts.items() if count > 0)]


def time_facts(notification: Notification) -> list[tuple[str, str]]:
    """Return how long the batch took, or has run, and its limit."""
    status, event, now = notification.status, notification.event, notification.read_at
    facts = []
    ends = {"complete": status.complete_at, "success": status.success_at, "cancel": status.cancelled_at}
    ended_at = ends.get(event) or status.finish_at
    if ended_at:
        facts.append(("Took", describe_duration(ended_at - status.created_at)))
    elif now:
        facts.append(("Running for", describe_duration(now - status.created_at)))
    if notification.limit:
        facts.append(("Limit", describe_duration(notification.limit)))
    if event == Event.PROGRESS and now and not ended_at and 0 < status.progress < 1:
        left = (now - status.created_at) * (1 - status.progress) / status.progress
        facts.append(("Left", f"about {describe_duration(left)}"))
    if event == Event.STALL and status.moved_at:
        facts.append(("Last moved", write_time(notification, status.moved_at)))
    return facts


def origin_facts(notification: Notification) -> list[tuple[str, str]]:
    """Return the system's name and the batch's tags."""
    tags = [tag for tag in (one_line(tag, TAG_CHARACTERS) for tag in notification.status.tags) if tag]
    facts = {"System": str(notification.origin), "Tags": ", ".join(tags[:TAGS_SHOWN])}
    return [(name, value) for name, value in facts.items() if value]


def write_time(notification: Notification, at: datetime) -> str:
    """Return a time in the system's time zone."""
    return f"{at.astimezone(notification.origin.timezone):%Y-%m-%d %H:%M:%S %Z}".rstrip()


def _describe(group: FailureGroup) -> str:
    message = one_line(group.first.error_message, ERROR_CHARACTERS)
    return f"{group.counted}: {message}" if message else group.counted

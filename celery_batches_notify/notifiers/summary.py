"""What a chat message says of a batch: the words, before any service's markup."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from celery_batches_notify.model import BatchStatus, Event, Failure, Notification
from celery_batches_notify.text import one_line

NAME_CHARACTERS = 100
TITLE_CHARACTERS = 150
ERRORS_SHOWN = 3
ERROR_CHARACTERS = 200
TASK_CHARACTERS = 80
TAGS_SHOWN = 5
TAG_CHARACTERS = 40

_UNEASY = frozenset({Event.CANCEL, Event.DEADLINE, Event.STALL})
_PAGE = re.compile(r"https?://[^\s<>\"'|\\^`{}]{1,500}", re.ASCII)


class Verdict(StrEnum):
    """How a batch went, in one of three colours."""

    SUCCEEDED = "succeeded"
    FAILING = "failing"
    DEAD = "dead"

    @property
    def symbol(self) -> str:
        """A sign for services that show no colour."""
        return {Verdict.SUCCEEDED: "✅", Verdict.FAILING: "⚠️", Verdict.DEAD: "❌"}[self]

    @property
    def colour(self) -> str:
        """Green, amber or red as `#rrggbb`, told apart by colour-blind people too."""
        return {Verdict.SUCCEEDED: "#1a7f37", Verdict.FAILING: "#d9a400", Verdict.DEAD: "#cf222e"}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One notification in words. All of it is plain text on single lines: escape it before you use it.

    Attributes:
        verdict: How it went.
        title: What happened to which batch.
        facts: Names and values: how many tasks, how long.
        errors: The first errors, each `Class: message (task)`.
        more_errors: How many others there are.
        url: The batch's page, safe as it is, or None.
        bid: The batch's id.
    """

    verdict: Verdict
    title: str
    facts: tuple[tuple[str, str], ...]
    errors: tuple[str, ...]
    more_errors: int
    url: str | None
    bid: str

    @property
    def sentence(self) -> str:
        """The facts on one line."""
        return " · ".join(f"{name}: {value}" for name, value in self.facts)

    @property
    def error_lines(self) -> tuple[str, ...]:
        """The first errors and the number of others."""
        return (*self.errors, f"… and {self.more_errors} more") if self.more_errors else self.errors

    @property
    def lines(self) -> tuple[str, ...]:
        """All of it but the address, without markup."""
        return (f"{self.verdict.symbol} {self.title}", self.sentence, *self.error_lines)


def summarise(notification: Notification) -> Summary:
    """Put a notification into words."""
    status = notification.status
    errors = tuple(_describe(failure) for failure in status.failure_info[:ERRORS_SHOWN])
    return Summary(
        verdict=_judge(notification.event, status),
        title=_title(notification),
        facts=tuple(_facts(notification.event, status)),
        errors=errors,
        more_errors=max(0, status.failures - len(errors)) if errors else 0,
        url=notification.url if notification.url and _PAGE.fullmatch(notification.url) else None,
        bid=status.bid,
    )


def describe_duration(duration: timedelta) -> str:
    """Say a duration in its two largest units, such as `3 min 12 s`."""
    seconds = max(0.0, duration.total_seconds())
    if seconds < 10:
        return f"{seconds:.1f} s"
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, left = divmod(rest, 60)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next(i for i, (count, _) in enumerate(units) if count)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count)


def _judge(event: str, status: BatchStatus) -> Verdict:
    if status.cancelled_at is not None:
        return Verdict.FAILING
    if status.dead or event == Event.DEATH:
        return Verdict.DEAD
    return Verdict.FAILING if status.failures or event in _UNEASY else Verdict.SUCCEEDED


def _title(notification: Notification) -> str:
    """Take the notification's own words, but let a long description not push them out of sight."""
    name = one_line(notification.status.description, NAME_CHARACTERS)
    short = replace(notification, status=replace(notification.status, description=name))
    return one_line(short.subject, TITLE_CHARACTERS)


def _facts(event: str, status: BatchStatus) -> list[tuple[str, str]]:
    facts = [("Tasks", f"{status.succeeded:,} of {status.total:,} succeeded" if status.total else "none")]
    failed = [
        f"{count:,} {words}"
        for count, words in ((status.failed, "to be retried"), (status.dead, "for good"))
        if count > 0
    ]
    if failed:
        facts.append(("Failed", ", ".join(failed)))
    if (waiting := status.pending - status.failures) > 0:
        facts.append(("Waiting", f"{waiting:,}"))
    if (duration := _duration(event, status)) is not None:
        facts.append(("Took", describe_duration(duration)))
    if tags := [tag for tag in (one_line(tag, TAG_CHARACTERS) for tag in status.tags) if tag]:
        facts.append(("Tags", ", ".join(tags[:TAGS_SHOWN])))
    return facts


def _duration(event: str, status: BatchStatus) -> timedelta | None:
    at = getattr(status, f"{event}_at", None) or status.finish_at
    return at - status.created_at if at else None


def _describe(failure: Failure) -> str:
    task = one_line(failure.task, TASK_CHARACTERS)
    what = one_line(f"{failure.error_class}: {failure.error_message}", ERROR_CHARACTERS)
    return f"{what} ({task})"

"""The values that users read: frozen, without I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from celery_batches_notify.bar import draw_for_notebook
from celery_batches_notify.errors import BatchesError
from celery_batches_notify.headline import headline

if TYPE_CHECKING:
    from celery_batches_notify.typing import StatusDict

SCHEMA_VERSION = 1
STATES = ("success", "cancelled", "dead", "stalled", "complete", "running", "open")
FAILURES_SENT = 10
FAILURE_MESSAGE_SENT = 500

_NOT_FLAT = ("callbacks", "failure_info", "unsendable", "abandoned_at", "moved_at", "cut_short", "reader")


class Event(StrEnum):
    """A fact about a batch that becomes true once, in the order of publication."""

    CANCEL = "cancel"
    DEADLINE = "deadline"
    STALL = "stall"
    PROGRESS = "progress"
    DEATH = "death"
    COMPLETE = "complete"
    FINISH = "finish"
    SUCCESS = "success"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed attempt of a member. `retries` counts the attempts before it."""

    task_id: str
    task: str
    error_class: str
    error_message: str
    backtrace: str | None
    retries: int
    failed_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the failure as JSON."""
        return {
            "task_id": self.task_id,
            "task": self.task,
            "error_class": self.error_class,
            "error_message": self.error_message[:FAILURE_MESSAGE_SENT],
            "backtrace": self.backtrace,
            "failed_at": _iso(self.failed_at),
            "retries": self.retries,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackStatus:
    """How far the delivery of one callback has come.

    `state` is `waiting` (its event has not fired), `due`, `published`, `delivered`, `given_up` or `skipped`
    (its `only_if` did not hold). A due callback may wait for an address that has failed or is busy:
    `waits_for` shows the address without secrets, and `waits_until` is the latest time of the next attempt.
    """

    event: str
    n: int
    target: str
    state: str
    attempts: int
    waits_for: str | None = None
    waits_until: datetime | None = None

    @property
    def entry(self) -> str:
        """Its entry in the outbox."""
        return f"{self.event}:{self.n}"

    def as_dict(self) -> dict[str, Any]:
        """Return the callback as JSON, with `waits_for` and `waits_until` while it waits for an address."""
        names = ("event", "n", "target", "state", "attempts")
        out: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.waits_for is not None:
            out |= {"waits_for": self.waits_for, "waits_until": _iso(self.waits_until)}
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryNote:
    """The worker's part of a line in the delivery log; the store adds the rest."""

    channel: str
    detail: str = ""
    status_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryAttempt:
    """One line of a batch's delivery log.

    `outcome` is `delivered`, `failed` (tried again later), `waiting` (not tried, because the address has
    failed or is busy) or `given_up`. `channel` names the notifier or the callback's tasks. `status_code` is
    the receiver's, if its protocol has one. `detail` says in a few words what the receiver answered or what
    went wrong, and never holds a secret.
    """

    event: str
    n: int
    channel: str
    attempt: int
    outcome: str
    status_code: int | None = None
    detail: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a batch has come: one reading of its counters."""

    bid: str
    state: str
    total: int
    pending: int
    succeeded: int
    failures: int
    dead: int
    finished: bool

    @property
    def ended(self) -> int:
        """How many members will not run again by themselves."""
        return self.succeeded + self.dead

    @property
    def progress(self) -> float:
        """The share of members that ended, from 0.0 to 1.0. An empty batch is at 1.0."""
        return self.ended / self.total if self.total else 1.0

    def _repr_html_(self) -> str:
        """Show the bar in a notebook."""
        return draw_for_notebook(self, self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberResult:
    """The return value or the exception of one member, as the result backend holds it.

    `state` is Celery's (`SUCCESS`, `FAILURE`, …), or `PENDING` if nothing is stored; `result` is the return
    value or the exception. If the member is a batch, `task_id` is its bid, `result` stays None, and its state
    is `PENDING`, `RETRY` (it is complete), `FAILURE` or `SUCCESS`.
    """

    index: int
    task_id: str
    state: str
    result: Any = None
    traceback: str | None = None
    is_batch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """One consistent reading of a batch. Times are aware UTC, by the store's clock.

    As in Sidekiq, `pending` counts the members that have not succeeded, and `failures` those whose last
    attempt failed, dead ones included. `failure_info` holds up to `batches_failures_kept` records.
    `unsendable` counts, by reason, the dead members that a retry cannot send again. `abandoned_at` is when a
    worker sealed the batch because its producer had died. A batch is `cut_short`, and cannot succeed, if some
    of its calls were never made, because its producer died or Celery gave up a chord. `moved_at` is when a
    member was last added or reported.
    """

    bid: str
    description: str
    tags: tuple[str, ...]
    state: str
    total: int
    pending: int
    succeeded: int
    failures: int
    dead: int
    created_at: datetime
    sealed_at: datetime | None = None
    complete_at: datetime | None = None
    success_at: datetime | None = None
    death_at: datetime | None = None
    finish_at: datetime | None = None
    cancelled_at: datetime | None = None
    expires_at: datetime | None = None
    parent_bid: str | None = None
    children: int = 0
    callbacks: tuple[CallbackStatus, ...] = ()
    failure_info: tuple[Failure, ...] = field(default=(), repr=False)
    unsendable: Mapping[str, int] = field(default_factory=dict)
    abandoned_at: datetime | None = None
    moved_at: datetime | None = None
    cut_short: bool = False
    reader: Callable[[BatchStatus], Iterator[MemberResult]] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def progress(self) -> float:
        """The share of members that ended, from 0.0 to 1.0."""
        return (self.succeeded + self.dead) / self.total if self.total else float(self.sealed_at is not None)

    @property
    def failing(self) -> int:
        """How many members wait for their retry after a failed attempt."""
        return self.failures - self.dead

    @property
    def duration(self) -> timedelta | None:
        """The time from the creation of the batch to its end; None while it runs."""
        return self.finish_at - self.created_at if self.finish_at else None

    def results(self) -> Iterator[MemberResult]:
        """Iterate over the members' results in the order of their index, read from the result backend.

        The results are read in chunks, so a million of them take as little memory as a thousand.

        Raises:
            ConfigurationError: The app lacks a result backend that keeps results.
            NoSuchBatch: The batch is gone.
            BatchesError: `Batch.status()` or `Batch.join()` of another process read this status.
        """
        if self.reader is None:
            raise BatchesError(
                "this status cannot read results: call Batch.get(status.bid).status().results() instead"
            )
        return self.reader(self)

    def as_dict(self) -> StatusDict:
        """Return the status as JSON: the first 10 failures, times in ISO 8601."""
        out = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in _NOT_FLAT}
        out = {k: _iso(v) if k.endswith("_at") else v for k, v in out.items()}
        out |= {
            "tags": list(self.tags),
            "progress": round(self.progress, 4),
            "callbacks": [c.as_dict() for c in self.callbacks],
            "failure_info": [f.as_dict() for f in self.failure_info[:FAILURES_SENT]],
        }
        return cast("StatusDict", out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The system that a notification comes from.

    Attributes:
        name: The name by which people know the system.
        environment: One of its environments, such as `staging`, or an empty string.
        app: The argument of `celery -A`, or an empty string if it is unknown.
        timezone: The time zone of the times in messages.
    """

    name: str = ""
    environment: str = ""
    app: str = ""
    timezone: tzinfo = UTC

    def __str__(self) -> str:
        environment = f"({self.environment})" if self.name and self.environment else self.environment
        return f"{self.name} {environment}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One event of one batch, which a notifier sends.

    `id` is the same on every attempt, so that receivers can drop repeats. `url` is the batch's page, if
    `batches_web_url` is set. `attempt` counts from 1. `owed` names the recipients that an earlier attempt
    left out, taken from its `NotificationFailed`: send to these only, or to all if it is empty. `origin` is
    the system that sends it, `read_at` is when the status was read, and `limit` is the time that a `deadline`
    or `stall` callback was declared with.
    """

    id: str
    event: str
    status: BatchStatus
    url: str | None = None
    attempt: int = 1
    owed: tuple[str, ...] = ()
    origin: Origin = Origin()
    read_at: datetime | None = None
    limit: timedelta | None = None

    @property
    def subject(self) -> str:
        """One line that says how the batch goes, the same on every channel."""
        return headline(self.status, self.event, now=self.read_at, limit=self.limit)

    def as_dict(self) -> dict[str, Any]:
        """Return the body of a webhook: the flat status, the event and the page's URL."""
        body = {k: v for k, v in self.status.as_dict().items() if k != "callbacks"}
        return body | {"event": self.event, "url": self.url, "schema_version": SCHEMA_VERSION}


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None

"""Types for users who check theirs: names of events and states, what `map` takes, and a callback's status.

Type checkers read them; nothing here does anything when a program runs.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, Protocol, TypedDict, TypeVar

T_contra = TypeVar("T_contra", contravariant=True)

EventName = Literal["cancel", "deadline", "stall", "progress", "death", "complete", "finish", "success"]
PlainEventName = Literal["cancel", "death", "complete", "finish", "success"]
TimedEventName = Literal["deadline", "stall"]
BuiltInChannel = Literal[
    "apprise",
    "campfire",
    "discord",
    "email",
    "hipchat",
    "mattermost",
    "rocketchat",
    "slack",
    "teams",
    "webhook",
]
StateName = Literal["success", "cancelled", "dead", "stalled", "complete", "running", "open"]
CallbackState = Literal["waiting", "due", "published", "delivered", "given_up", "skipped"]


class TaskOfOne(Protocol[T_contra]):
    """A task, or a signature, that is called with one argument: what `Batch.map` takes."""

    def delay(self, item: T_contra, /) -> Any:
        """Call the task."""
        ...


class FailureDict(TypedDict):
    """A failed attempt of a member, as callbacks get it. See `BatchStatus.failure_info`."""

    task_id: str
    task: str
    error_class: str
    error_message: str
    backtrace: str | None
    failed_at: str | None
    retries: int


class CallbackDict(TypedDict):
    """How far the delivery of a callback has come. The last two are there while it waits for an address."""

    event: EventName
    n: int
    target: str
    state: CallbackState
    attempts: int
    waits_for: NotRequired[str]
    waits_until: NotRequired[str | None]


class StatusDict(TypedDict):
    """The status that a callback task gets as its first argument. Times are in ISO 8601.

    See `BatchStatus` for the meaning of its fields.
    """

    bid: str
    description: str
    tags: list[str]
    state: StateName
    total: int
    pending: int
    succeeded: int
    failures: int
    dead: int
    progress: float
    created_at: str
    sealed_at: str | None
    complete_at: str | None
    success_at: str | None
    death_at: str | None
    finish_at: str | None
    cancelled_at: str | None
    expires_at: str | None
    parent_bid: str | None
    children: int
    callbacks: list[CallbackDict]
    failure_info: list[FailureDict]

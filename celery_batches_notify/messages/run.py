"""Facts about one run of a task, kept on its request until its outcome is reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery_batches_notify.membership import Membership

if TYPE_CHECKING:
    from celery_batches_notify.messages.block import Frame

Limits = tuple[float | None, float | None]

NO_LIMITS: Limits = (None, None)
_ATTRIBUTE = "batches_run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """A successor that Celery could not publish: a member that will never run."""

    member: Membership
    task: str
    error: Exception


@dataclass(slots=True, eq=False)
class Run:
    """Facts about one run of a task.

    Attributes:
        began_at: When it began, by the monotonic clock; None in a process that does not run it.
        limits: Its hard and its soft time limit in seconds.
        outer: The innermost block of the code that runs it, if that is in one.
        arguments: Its positional and keyword arguments as they came: its code may change them in place.
        stored: The state and the result that it has stored of itself.
        returned: Celery has reported that it returned.
        goes_on: A retry or replacement has left under its own id, and ends it, however this run ends.
        is_replaced: A canvas, or a retry under another id, has taken its place.
        successors: The members that it has published; the value is set if the broker refused one.
    """

    began_at: float | None = None
    limits: Limits = NO_LIMITS
    outer: Frame | None = None
    arguments: tuple[list[Any], dict[str, Any]] | None = None
    stored: tuple[str | None, object] = (None, None)
    returned: bool = False
    goes_on: bool = False
    is_replaced: bool = False
    successors: dict[Membership, Unsent | None] = field(default_factory=dict)

    @property
    def published(self) -> tuple[Membership, ...]:
        """The successors that the broker took."""
        return tuple(member for member, unsent in self.successors.items() if unsent is None)

    @property
    def unsent(self) -> list[Unsent]:
        """The successors that the broker refused."""
        return [unsent for unsent in self.successors.values() if unsent is not None]


def find_run(request: Any) -> Run | None:
    """Return what a task's run has shown so far, or None if it has shown nothing."""
    noted: Run | None = vars(request).get(_ATTRIBUTE)
    return noted


def run_of(request: Any) -> Run:
    """Return the facts about a request's run, to read them or to add to them."""
    if (noted := find_run(request)) is None:
        noted = Run()
        setattr(request, _ATTRIBUTE, noted)
    return noted

"""A member of a batch: its state in the store, which member a task is, and how its executions end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from celery_batches_notify.model import Failure


class State(IntEnum):
    """What the store knows of one member: two bits."""

    WAITING = 0
    FAILING = 1
    DEAD = 2
    SUCCEEDED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Which member of which batch a task is, as its message says.

    A late member, which a worker published as the successor of another, has no `index` in its message, for a
    report enrols it. `of` names the member (its index and id) whose canvas it goes on with. `turn` counts the
    tasks that bore the same id before it: each was replaced by a canvas, and is a member of its own.
    """

    bid: str
    index: int | None
    task_id: str
    round: int = 0
    of: tuple[int, str] | None = None
    turn: int = 0

    @property
    def origin(self) -> tuple[int, str] | None:
        """Which member's canvas its successors go on with: one that was enrolled before its message left."""
        return self.of if self.index is None else (self.index, self.identity)

    @property
    def identity(self) -> str:
        """What the store knows it by: no two members of a batch share it."""
        return f"{self.task_id}#{self.turn}" if self.turn else self.task_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one execution of a member ended. `attempt` counts from 1.

    Of a dead one, `resend` is what a retry needs as JSON, or "" and `unsendable` says why.
    `successors` are the late members that this execution published: its report enrols them. Of a part of a
    chord's header, `body` are the members that follow once all of the header has succeeded, and
    `breaks_chord` says that Celery does not count this part, so that none will.
    """

    state: State
    attempt: int = 1
    reason: str | None = None
    failure: Failure | None = None
    resend: str = ""
    unsendable: str = "not kept"
    successors: tuple[Membership, ...] = ()
    body: tuple[Membership, ...] = ()
    breaks_chord: bool = False

"""A member of a batch: its state in the store, which member a task is, and how its executions end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from celery_batches_notify.model import Failure


class State(IntEnum):
    """The state of a member in the store: two bits."""

    WAITING = 0
    FAILING = 1
    DEAD = 2
    SUCCEEDED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The batch and the member that a task is, as its message says.

    A successor, which a worker published for another member, gets its index from the report that enrols it,
    so `index` is None. `of` names the member (its index and id) whose canvas it continues. `turn` counts the
    tasks that had the same id before it: each was replaced by a canvas, and is a member of its own.
    """

    bid: str
    index: int | None
    task_id: str
    round: int = 0
    of: tuple[int, str] | None = None
    turn: int = 0

    @property
    def origin(self) -> tuple[int, str] | None:
        """The member whose canvas its successors continue: one that was enrolled before its message left."""
        return self.of if self.index is None else (self.index, self.identity)

    @property
    def identity(self) -> str:
        """Its id in the store, which no other member of the batch shares."""
        return f"{self.task_id}#{self.turn}" if self.turn else self.task_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one execution of a member ended. `attempt` counts from 1.

    If the member is dead, `resend` is what a retry needs as JSON, or "" and `unsendable` says why.
    `successors` are the members that this execution published: its report enrols them. If it is a part of a
    chord's header, `body` holds the members that follow once the whole header has succeeded, and
    `breaks_chord` says that Celery does not count this part, so that none of them follows.
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

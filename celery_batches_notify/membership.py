"""A member of a batch: its state in the store, its identity in messages, and the outcomes of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from celery_batches_notify.model import Failure


class State(IntEnum):
    """The state of one member in the store, in two bits."""

    WAITING = 0
    FAILING = 1
    DEAD = 2
    SUCCEEDED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The identity of a task as a member, as its message carries it.

    A successor, which a worker published on behalf of another member, lacks the `index` in its message,
    because a report enrols it. `of` is the index and the id of the member whose canvas it continues. `turn`
    counts the earlier tasks of the same id: each was replaced by a canvas, and is a separate member.
    """

    bid: str
    index: int | None
    task_id: str
    round: int = 0
    of: tuple[int, str] | None = None
    turn: int = 0

    @property
    def origin(self) -> tuple[int, str] | None:
        """The member whose canvas its successors continue; it was enrolled before its message left."""
        return self.of if self.index is None else (self.index, self.identity)

    @property
    def identity(self) -> str:
        """The id of the member in the store, unique in its batch."""
        return f"{self.task_id}#{self.turn}" if self.turn else self.task_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one execution of a member ended. `attempt` counts from 1.

    `reason` says in a word or two why the member is dead. The scripts decide by it whether that is a death
    of the batch (`note_death` in `shared/events.lua`): a member that was discarded with its batch is not.
    For a dead member, `resend` is the JSON that a retry needs, or empty if `unsendable` says why not.
    `successors` are the members that this execution published; its report enrols them. For a part of a
    chord's header, `body` are the members that follow once the whole header has succeeded, and
    `breaks_chord` says that Celery does not count this part, so that they will never follow.
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


JUST_SUCCEEDED = Outcome(state=State.SUCCEEDED)

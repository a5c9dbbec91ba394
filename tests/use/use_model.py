"""The model of calls, batches and open blocks: the fate of every call, by the promises, in plain Python.

A context holds the blocks that were opened in it, or in the one it was copied from. A call is a member of
the innermost of them that is still open and collects for its app.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tests.use.use_holder import Holder


class Fate(Enum):
    """The fate of a call."""

    WAITING = "it waits in an open block: no message, no member"
    OUT = "its message has left, and it is a member if it was made in a block"
    DOUBT = "it was cut short: if it has left, it is a member, and resume() decides"
    EITHER = "it has left as a member, or it was not made"
    NEVER = "it was not made: no message, no member"


Known = Literal["no", "maybe", "yes"]


@dataclass(eq=False)
class Call:
    """One call.

    Attributes:
        id: Its task's.
        app: The name of its app.
        batch: The batch that it is a member of, if any.
        fate: Whether and how it left.
        unknown: How often the broker's answer was not known: so many times its message may leave once more.
        behind: The link of a chain that comes before it: the worker that runs that one publishes this one.
        body: What its task does.
        may_be_dropped: Its block raised, or its caller did, before it was resumed.
    """

    id: str
    app: str
    batch: Stored | None = None
    fate: Fate = Fate.OUT
    unknown: int = 0
    behind: Call | None = None
    body: str = ""
    may_be_dropped: bool = False


@dataclass(eq=False)
class Stored:
    """One batch, whichever objects stand for it."""

    bid: str
    app: str
    keep_open: bool = False
    parent: Stored | None = None
    in_members_block: bool = False  # of its parent's running member, which may always add
    stored: Known = "no"
    sealed: Known = "no"
    sealed_by: Holder | None = None
    was_discarded: bool = False
    calls: list[Call] = field(default_factory=list)
    children: set[str] = field(default_factory=set)
    perhaps: set[str] = field(default_factory=set)  # children whose enrolment was cut short

    def be_stored(self, sure: Known = "yes") -> None:
        """Note that it is stored, and so is its parent, whose member it is."""
        if self.stored != "yes":
            self.stored = sure
            if self.parent is not None:
                self.parent.be_stored(sure)
                (self.parent.children if sure == "yes" else self.parent.perhaps).add(self.bid)

    def be_sealed(self, by: Holder | None, sure: Known = "yes") -> None:
        if self.sealed != "yes":
            self.sealed, self.sealed_by = sure, by

    def is_closed_to(self, holder: Holder) -> Known:
        """Return whether it refuses calls of this object; others may only add if it is kept open."""
        if holder.is_members:
            return "no"
        if not holder.is_owner and not self.keep_open:
            return "yes"
        return self.is_closed

    @property
    def is_closed(self) -> Known:
        """Whether it refuses members. A child is stored with its first members, if its parent takes it."""
        if self.stored == "yes" or self.parent is None or self.in_members_block:
            return self.sealed
        return self.parent.is_closed if self.stored == "no" else "maybe"


@dataclass(eq=False)
class Frame:
    """One open block; without a holder it is an `outside_batch()`."""

    app: str | None = None
    holder: Holder | None = None
    is_open: bool = True


class NotCollected(Exception):
    """All open blocks are of other apps."""


def find_holder(around: Sequence[Frame], app: str) -> Holder | None:
    """Return the batch that collects a call in these blocks; None if it leaves at once.

    Raises:
        NotCollected: It is made in open blocks of other apps only.
    """
    foreign = False
    for frame in reversed(around):
        if frame.is_open:
            if frame.app == app:
                return frame.holder
            if frame.app is None:
                break
            foreign = True
    if foreign:
        raise NotCollected
    return None

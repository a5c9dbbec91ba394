"""The model of one `Batch` object: what happens to its calls, by the promises, in plain Python.

The calls of a block leave at its end, unless it raises. Calls that the broker or the store interrupted are in
doubt until `resume()`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.use.use_model import Call, Fate, Frame, Stored


class Items(Protocol):
    """An iterable that was given to `map`."""

    pending: list[Call]  # read, and not known to be taken
    rest: list[Call]  # not read
    is_over: bool


@dataclass(eq=False)
class Holder:
    """One `Batch` object.

    Attributes:
        batch: The batch that it stands for.
        is_owner: Whether it made the batch; else it found it, or its member runs (`is_members`).
        autoflush: Its block publishes whenever so many calls wait.
        block: Its open block.
        was_stored: Whether the batch was there when the block began.
        waiting: The calls of the open block.
        is_cut_short: Whether `resume()` has work to do.
        doubt: The calls that were interrupted.
        broken: The iterables that a refusal interrupted.
        reading: How many maps are under way: until they end, the batch has not all its calls.
        faults: How many iterables and autoflush blocks raised, so that calls were never made.
        forgiven: How many of them are made good by what came later.
        has_lost: Its block raised, and with it went calls of a map whose others had left.
        to_finish: If something was cut short that would have sealed the batch: the faults it makes good.
    """

    batch: Stored
    is_owner: bool = True
    is_members: bool = False
    autoflush: int | None = None
    block: Frame | None = None
    was_stored: bool = False
    waiting: list[Call] = field(default_factory=list)
    is_cut_short: bool = False
    doubt: list[Call] = field(default_factory=list)
    broken: list[Items] = field(default_factory=list)
    reading: int = 0
    faults: int = 0
    forgiven: int = 0
    has_lost: bool = False
    to_finish: int | None = None

    @property
    def seals(self) -> bool:
        """Whether the end of a block, an `add` or a `map` is the last of its calls."""
        return self.is_owner and not self.batch.keep_open

    # -- blocks -------------------------------------------------------------------------------

    def open_block(self, around: Sequence[Frame]) -> Frame:
        """Begin a block. A new batch becomes a child if it is opened in the block of a running member."""
        outer = next((f for f in reversed(around) if f.is_open and f.app in (None, self.batch.app)), None)
        is_new = self.batch.stored == "no" and self.batch.parent is None
        if is_new and outer and outer.holder and outer.holder.is_members:
            self.batch.parent, self.batch.in_members_block = outer.holder.batch, True
        self.block = Frame(self.batch.app, self)
        self.was_stored = self.batch.stored == "yes"
        return self.block

    def collect(self, calls: Iterable[Call]) -> None:
        """Take calls into the open block; `autoflush` may publish them at any time."""
        for call in calls:
            self._take(call, Fate.EITHER if self.autoflush else Fate.WAITING)
            self.waiting.append(call)

    def joined(self) -> None:
        """Add calls to the block; `autoflush` publishes some of them."""
        if self.autoflush and len(self.waiting) >= self.autoflush:
            self.batch.be_stored()

    def end_block(self) -> list[Call]:
        """Close the block; return the calls that waited."""
        if self.block is not None:
            self.block.is_open = False
        self.block = None
        waiting, self.waiting = self.waiting, []
        return waiting

    def drop_block(self, left: Collection[Call]) -> None:
        """Drop the block, which raised; only calls that `autoflush` had published remain."""
        for call in self.end_block():
            call.fate = Fate.OUT if call in left else Fate.NEVER
            self.has_lost = self.seals and any(call.fate is Fate.OUT for call in self.batch.calls)
        for call in self.doubt:
            call.may_be_dropped = True
        if self.autoflush and (left or self.doubt):
            self.faults += 1
        elif self.batch.stored == "yes" and not self.was_stored and not self.doubt and not self._has_sent:
            # Its child, which stored it, goes on alone.
            self.batch.stored, self.batch.was_discarded = "no", True
            self.batch.children.clear()

    @property
    def _has_sent(self) -> bool:
        """Whether calls have left that only `resume()` could send while the block was open."""
        return any(call.fate is Fate.OUT for call in self.batch.calls)

    # -- calls that were handed over ----------------------------------------------------------

    def submit(self, calls: Iterable[Call]) -> None:
        """Note that all calls have left."""
        for call in calls:
            self._take(call, Fate.OUT)
        self.batch.be_stored()

    def cut_short(self, calls: Iterable[Call]) -> None:
        """Note that the broker or the store refused some calls."""
        for call in calls:
            self._take(call, Fate.DOUBT)
            self.doubt.append(call)
        self.is_cut_short = True
        self.batch.be_stored("maybe")
        if self.seals and self.block is None:
            self.batch.be_sealed(self, "maybe")  # perhaps only the seal's reply was lost

    def refuse(self, calls: Iterable[Call]) -> None:
        """Note that the batch was sealed before or meanwhile."""
        before = self.batch.is_closed_to(self) == "yes"
        for call in calls:
            self._take(call, Fate.NEVER if before and call.fate is not Fate.EITHER else Fate.EITHER)
        for call in self.doubt:
            call.fate = Fate.EITHER
        self.is_cut_short = False
        self.doubt.clear()
        self.broken.clear()

    def resumed(self) -> None:
        """Note that the calls in doubt have left."""
        for call in self.doubt:
            call.fate = Fate.EITHER if call.may_be_dropped else Fate.OUT
        if self.is_cut_short:
            self.batch.be_stored()
        self.is_cut_short = bool(self.broken)
        self.doubt.clear()

    def _take(self, call: Call, fate: Fate) -> None:
        if call.batch is None:
            call.batch = self.batch
            self.batch.calls.append(call)
        call.fate = fate

    # -- sealing ------------------------------------------------------------------------------

    def finish(self, makes_good: int) -> None:
        """Something has gone well that is the last of the calls, and makes good so many faults."""
        self.forgiven = max(self.forgiven, makes_good)
        if self.broken:
            self.finish_later(makes_good)
        elif self.seals and self.block is None and not self.reading:
            self.batch.be_stored()
            if self.faults <= self.forgiven:
                self.batch.be_sealed(self)
                self.to_finish = None

    def finish_later(self, makes_good: int) -> None:
        """It was cut short; or a map was before, and must go on first."""
        if self.seals and self.block is None:
            self.to_finish = max(self.to_finish or 0, makes_good)

    def finish_now(self) -> None:
        """Note that `resume()` went through: it seals, unless calls were never made.

        Whether what was cut short makes these good, or a block that raised took calls of a map with it, is
        nowhere said: the batch may be sealed then or not.
        """
        if not self.seals or self.block is not None or self.broken:
            return
        if self.to_finish is not None and self.faults <= self.forgiven:
            self.finish(self.forgiven)
        elif self.has_lost or (self.to_finish is not None and self.faults <= self.to_finish):
            self.batch.be_sealed(self, "maybe")

"""Each step changes the package's batches and the model."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from kombu.exceptions import EncodeError

from celery_batches_notify import Batch, BatchSealed, EnqueueError, NotAMember, WouldDeadlock
from tests.use.use_faults import BrokerAway
from tests.use.use_holder import Holder
from tests.use.use_items import Items, Oddity
from tests.use.use_model import Call, Fate, Frame, NotCollected, find_holder
from tests.use.use_stage import CUT_SHORT, Held, Player, Stage


class Example(Stage):
    """Each step, in the package and in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[tuple[Frame, AbstractContextManager[None]]] = []

    def finish(self) -> None:
        for held in self.held:
            if held.model.block is not None:
                self.end_block(self.players[0], held)
        for held in self.held:
            for _ in range(1 + len(held.model.broken)):  # an iterable may raise now, and others are left
                if held.model.is_cut_short:
                    self.resume(self.players[0], held)

    # -- blocks -------------------------------------------------------------------------------

    def open_block(self, player: Player, held: Held, *, in_generator: bool = False) -> bool:
        """Enter the block, perhaps in a generator that is suspended in it; return whether it is open now."""
        model, generator = held.model, suspended_in(held.batch)
        enter = (lambda: next(generator)) if in_generator else held.batch.__enter__
        _, error = self.act(player, enter, BatchSealed, WouldDeadlock)
        if isinstance(error, WouldDeadlock):
            assert model.block is not None
        elif error is not None:
            assert model.batch.sealed != "no", error
        else:
            assert model.block is None
            player.around.append(model.open_block(player.around))
            held.way_out = generator if in_generator else None
        return error is None

    def end_block(self, player: Player, held: Held, raises: type[BaseException] | None = None) -> None:
        """Leave the block in any context; a generator runs to its end, or is closed."""
        model, generator, makes_good = held.model, held.way_out, held.model.faults
        exc = raises() if raises else None
        if generator is None:
            leave = lambda: held.batch.__exit__(raises, exc, None)  # noqa: E731
        elif raises is GeneratorExit:
            leave = generator.close
        else:
            leave = lambda: generator.throw(exc) if exc else next(generator, None)  # noqa: E731
        _, error = self.act(player, leave, BatchSealed, *([raises] if raises else []))
        if raises is not None:
            assert error is None or isinstance(error, raises)
            model.drop_block(self.left(model.waiting))
        else:
            model.forgiven = max(model.forgiven, makes_good)
            self.handed_over(held, model.end_block(), error, makes_good)

    def open_outside(self, player: Player, outside: AbstractContextManager[None]) -> None:
        self.act(player, outside.__enter__)
        player.around.append(Frame())
        self.outside.append((player.around[-1], outside))

    def end_outside(self, player: Player, which: int) -> None:
        frame, outside = self.outside.pop(which % len(self.outside))
        self.act(player, lambda: outside.__exit__(None, None, None))
        frame.is_open = False

    # -- calls --------------------------------------------------------------------------------

    def call(self, player: Player, calls: Sequence[Call], step: Callable[[], Any]) -> None:
        """Make calls of one app: they join a block, leave at once, or are refused."""
        try:
            holder = find_holder(player.around, calls[0].app)
        except NotCollected:
            _, error = self.act(player, step, NotAMember)
            assert isinstance(error, NotAMember), f"nobody collects it: {calls}"
            return
        _, error = self.act(player, step, BatchSealed)
        if holder is None:
            assert error is None or isinstance(error, BrokerAway), error
            for call in calls:
                call.fate = Fate.OUT if error is None else Fate.EITHER
        else:
            self.collected(holder, calls, error)

    def refused(self, player: Player, step: Callable[[], Any], *errors: type[BaseException]) -> None:
        """Do something that must raise."""
        _, error = self.act(player, step, *errors, EncodeError)
        assert error is not None

    def collected(self, holder: Holder, calls: Sequence[Call], error: BaseException | None) -> None:
        """Note that calls joined an open block, which may have flushed."""
        holder.collect(calls)
        if error is not None:
            assert holder.autoflush, error
            for call in calls:
                call.may_be_dropped = True  # of several, the error may have come before the others were made
            waiting, holder.waiting = holder.waiting, []
            self.failed(holder, waiting, error)
            return
        holder.joined()
        if holder.autoflush:
            kept = len(holder.waiting) - len(self.left(holder.waiting))
            assert kept < holder.autoflush, f"{kept} calls wait, though it flushes {holder.autoflush}"

    def failed(self, holder: Holder, calls: Sequence[Call], error: BaseException) -> None:
        """Note that calls were refused by a seal, or by a failing broker or store."""
        if isinstance(error, BatchSealed):
            assert holder.batch.is_closed_to(holder) != "no", f"it is open: {holder.batch}"
            holder.refuse(calls)
        else:
            assert isinstance(error, CUT_SHORT), error
            if (
                isinstance(error, EnqueueError)
                and not holder.autoflush
                and holder.batch.is_closed_to(holder) == "no"
            ):
                named = {*error.sent, *error.unsent, *error.unknown}
                assert {call.id for call in calls} <= named, "the error does not name all its calls"
            holder.cut_short(calls)

    def handed_over(
        self, held: Held, calls: Sequence[Call], error: BaseException | None, makes_good: int
    ) -> None:
        """Note that the batch took all these calls."""
        holder = held.model
        if holder.block is not None:
            self.collected(holder, calls, error)
        elif error is not None:
            self.failed(holder, calls, error)
            if not isinstance(error, BatchSealed):
                holder.finish_later(makes_good)
        else:
            holder.submit(calls)
            holder.finish(makes_good)

    # -- add, map, seal, resume ---------------------------------------------------------------

    def add(self, player: Player, held: Held, calls: Sequence[Call]) -> None:
        work, makes_good = self.apps[held.model.batch.app].tasks["work"], held.model.faults
        signatures = [work.s().set(task_id=call.id) for call in calls]
        results, error = self.act(player, lambda: held.batch.add(*signatures), BatchSealed)
        if error is None:
            assert [result.id for result in results] == [call.id for call in calls]
        self.handed_over(held, calls, error, makes_good)

    def map(self, player: Player, held: Held, items: Items) -> None:
        holder, makes_good = held.model, held.model.faults
        work = self.apps[holder.batch.app].tasks["work"]
        holder.reading += 1
        count, error = self.act(player, lambda: items.give_to(held.batch, work), BatchSealed, Oddity)
        holder.reading -= 1
        if error is None:
            assert count == len(items.calls) and items.is_over
            items.taken()
            if holder.block is None:
                holder.finish(makes_good)
        elif isinstance(error, Oddity):
            holder.faults += 1
        elif isinstance(error, BatchSealed) and holder.is_cut_short and not items.at:
            # An empty one seals: resume() must come first.
            assert items.is_over or holder.batch.sealed == "yes"
        elif isinstance(error, BatchSealed):
            self._interrupted(holder, items, error)
            items.is_over = True
        elif self._last_hit(holder) == "seal_batch" or (items.is_over and not items.pending):
            items.taken()
            holder.cut_short(())
            holder.finish_later(makes_good)
        else:
            self._interrupted(holder, items, error)
            holder.broken.append(items)
            holder.finish_later(makes_good)

    def _interrupted(self, holder: Holder, items: Items, error: BaseException) -> None:
        pending, items.done = items.pending, items.at
        if holder.block is not None:
            self.collected(holder, pending, error)
        else:
            self.failed(holder, pending, error)

    def _last_hit(self, holder: Holder) -> str:
        return self.faults[holder.batch.app].hits[-1]

    def resume(self, player: Player, held: Held) -> None:
        holder, broken = held.model, list(held.model.broken)
        unread = [(items, items.at) for items in broken]
        _, error = self.act(player, held.batch.resume, BatchSealed, Oddity)
        if isinstance(error, BatchSealed):
            assert not holder.seals or holder.batch.sealed_by is not holder, error
            assert holder.batch.is_closed_to(holder) != "no", error
            holder.refuse([call for items in broken for call in items.pending])
        elif error is None or isinstance(error, Oddity) or self._last_hit(holder) == "seal_batch":
            for items in broken:
                items.taken()
            holder.broken = [items for items in broken if not items.is_over]
            holder.resumed()
            holder.faults += isinstance(error, Oddity)
            assert error is not None or not holder.broken
        elif any(items.at != before for items, before in unread):
            last = max(n for n, (items, before) in enumerate(unread) if items.at != before)
            self._interrupted(holder, broken[last], error)
            holder.broken = broken[last:]
        if error is None:
            holder.finish_now()

    def seal(self, player: Player, held: Held) -> None:
        holder = held.model
        _, error = self.act(player, held.batch.seal, BatchSealed)
        if error is None:
            assert holder.block is None, "its block was open"
            holder.batch.be_stored()
            holder.batch.be_sealed(holder)
            holder.forgiven = holder.faults
        elif isinstance(error, BatchSealed):
            unsent = holder.doubt or holder.broken or holder.batch.is_closed_to(holder) != "no"
            assert holder.block is not None or unsent, error
        else:
            holder.cut_short(())
            holder.batch.be_sealed(holder, "maybe")
            holder.to_finish = holder.faults


def suspended_in(batch: Batch) -> Generator[None]:
    with batch:
        yield

"""Iterables for `map` that may raise, and during which other things happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from celery_batches_notify import Batch
from tests.use.use_holder import Holder
from tests.use.use_model import Call, Fate

CHUNK = 3


class Oddity(LookupError):
    """The error of an iterable."""


class Items(Iterator[Any]):
    """One call per item. A chunk counts as taken when the next item is asked for.

    Args:
        holder: The batch object whose `map` reads it.
        calls: The calls that it yields.
        raises_at: The item before which it raises.
        meanwhile: Steps to take before an item, by its number.
    """

    def __init__(
        self,
        holder: Holder,
        calls: list[Call],
        raises_at: int | None = None,
        meanwhile: tuple[int, Callable[[], object]] | None = None,
        *,
        as_arguments: bool = False,
    ) -> None:
        self.calls = calls
        self.at = self.done = 0
        self.is_over = False
        self._holder = holder
        self._raises_at = raises_at
        self._meanwhile = meanwhile
        self._as_arguments = as_arguments

    @property
    def pending(self) -> list[Call]:
        """Return the calls that were read and perhaps not taken."""
        return self.calls[self.done : self.at]

    def give_to(self, batch: Batch, task: Any) -> int:
        return batch.starmap(task, self) if self._as_arguments else batch.map(task, self)

    def __next__(self) -> Any:
        if self.at - self.done == CHUNK or self.is_over:
            self.taken()
        if self._meanwhile and self._meanwhile[0] == self.at:
            _, happens = self._meanwhile
            self._meanwhile = None
            happens()
        if self._raises_at == self.at:
            for call in self.pending:
                call.fate = Fate.NEVER
            self.done, self.is_over = self.at, True
            raise Oddity
        if self.at == len(self.calls):
            self.is_over = True
            raise StopIteration
        self.at += 1
        item = self.calls[self.at - 1].id
        return (item,) if self._as_arguments else item

    def taken(self) -> None:
        """Note that the batch took the calls that were read."""
        calls, self.done = self.pending, self.at
        if self._holder.block is not None:
            self._holder.collect(calls)
            self._holder.joined()
        elif calls:
            self._holder.submit(calls)

"""Enrolment: members are enrolled before their messages leave, and confirmed once these have left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from celery_batches_notify.errors import BatchSealed
from celery_batches_notify.membership import Membership
from celery_batches_notify.store import packing
from celery_batches_notify.store.base import StoreBase
from celery_batches_notify.store.errors import store_errors

Adder = Membership | Literal["owner", "other"]


class Abandoned(BatchSealed):
    """A worker sealed the batch because it took its producer for dead."""


class EnrolmentStore(StoreBase):
    """The store's methods for producers, and for what lost producers left undone."""

    def enrol_members(
        self,
        bid: str,
        first: int,
        task_ids: Sequence[str],
        adder: Adder,
        *,
        children: bool = False,
        last: bool = False,
        note_place: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Add members at index `first`, or behind those that others added meanwhile; return the index.

        Args:
            bid: The batch.
            first: Where to try first.
            task_ids: Their ids; for children the bids.
            adder: Who adds them: the batch's owner, another process, or a running member.
            children: Whether they are batches.
            last: Whether these are the owner's last members.
            note_place: Called with each index before it is tried. If the reply is lost they may stand there,
                and only there can they be added again without being added twice.

        Raises:
            BatchSealed: The batch does not take more members.
            NoSuchBatch: It is gone.
        """
        ids, named = packing.pack_ids(task_ids)
        added_by = packing.pack_member(adder) if isinstance(adder, Membership) else (adder, b"", b"")
        more = (int(children), int(last), *(part for pair in named for part in pair))
        while True:
            note_place(first)
            answer = self._run(self.scripts.enrol_members, bid, first, ids, *added_by, *more)
            if answer[0] == "moved":
                first = answer[1]
            elif answer[0] == "sealed":
                raise BatchSealed(
                    f"batch {bid} is sealed: members can only be added by one of its own running members "
                    "(through current_batch()), or from outside before the seal (create it with "
                    "keep_open=True to add in several goes)"
                )
            elif answer[0] == "abandoned":
                raise abandoned(bid)
            else:
                return int(answer[1]) if answer[0] == "already" and len(answer) > 1 else first

    def confirm_members(self, bid: str, firsts: Sequence[int], adder: Adder) -> bool:
        """Record that the messages of these chunks have left; return whether the batch was cancelled.

        Safe to repeat.

        Raises:
            BatchSealed: A worker took the owner for dead meanwhile.
            NoSuchBatch: The batch is gone.
        """
        who = "other" if isinstance(adder, Membership) else adder
        word = self._run(self.scripts.confirm_members, bid, who, *firsts)[0]
        if word == "abandoned":
            raise abandoned(bid)
        return bool(word == "cancelled")

    def write_off_chunk(self, bid: str, first: int) -> None:
        """Record that a chunk is settled, because none of its members still waits."""
        self._run(self.scripts.confirm_members, bid, "sweeper", first)

    def note_canvas(self, bid: str) -> None:
        """Record that members of the batch carry further members with them."""
        self._run(self.scripts.note_canvas, bid)

    def walk_unconfirmed(self, bid: str) -> Iterator[tuple[int, int]]:
        """Yield the first index and the length of each chunk that was enrolled and not confirmed."""
        with store_errors(self.settings):
            for first, count in self.client.hscan_iter(self.keys.part(bid, "unconfirmed")):
                yield int(first), int(count)


def abandoned(bid: str) -> Abandoned:
    """Return the error for a producer that was taken for dead and is not."""
    return Abandoned(
        f"batch {bid} was sealed by a worker: nothing came from its producer for batches_abandon_after, so "
        "it was taken for dead, and calls that were not sent by then count as dead: make these in another "
        "batch. If a producer may pause for longer, raise that setting or use keep_open=True"
    )

"""The store: one method per script, and methods that read."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from celery_batches_notify.checks import check_bid
from celery_batches_notify.errors import BatchesError, CorruptBatch, NoSuchBatch
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import BatchStatus, Progress
from celery_batches_notify.store import packing, parsing
from celery_batches_notify.store.addresses import AddressStore
from celery_batches_notify.store.base import check_values, gone
from celery_batches_notify.store.counting import CountingStore
from celery_batches_notify.store.deliveries import DeliveryStore
from celery_batches_notify.store.enrolments import EnrolmentStore, abandoned
from celery_batches_notify.store.errors import corrupt_errors, store_errors, type_errors
from celery_batches_notify.store.listener import Listener
from celery_batches_notify.store.lists import UNSTORED_SECONDS, LiveBatch, SweepLock, longest_life_ms
from celery_batches_notify.store.members import MemberStore
from celery_batches_notify.store.recorded import Recorded, first_claims, parse_recorded
from celery_batches_notify.store.repairs import RepairStore
from celery_batches_notify.store.retries import RetryStore
from celery_batches_notify.store.trimming import Trimmer
from celery_batches_notify.store.workers import WorkerStore

CHILDREN_PAGE = 100
AT_ONCE = 1000  # successors in one script call

logger = logging.getLogger(__name__)


class Store(
    EnrolmentStore,
    DeliveryStore,
    AddressStore,
    RetryStore,
    MemberStore,
    RepairStore,
    CountingStore,
    WorkerStore,
):
    """The batches of one app, in its Redis or Valkey.

    Every method raises `StoreUnavailable` when the store cannot be used.
    """

    # -- a batch's life -------------------------------------------------------------------------

    def open_batch(
        self,
        bid: str,
        fields: Mapping[str, str | int | float],
        *,
        callbacks: str = "",
        watch_after: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put the batch on the lists, then store it. Safe to repeat.

        Args:
            bid: The batch.
            fields: What its hash holds.
            callbacks: What was declared with `on()`, as JSON, or "".
            watch_after: After how many milliseconds its first deadline or stall is due, or 0.
            clock: This process's clock, in seconds: an entry whose batch is not stored in time is dropped.
        """
        began, life_ms = clock(), longest_life_ms(fields)  # safety: longest-life
        with store_errors(self.settings):
            self.lists.add_batch(bid, life_ms)
        pairs = [part for pair in fields.items() for part in pair]
        self._run(self.scripts.open_batch, bid, watch_after, callbacks, *pairs)
        if clock() - began > UNSTORED_SECONDS / 2:  # safety: slow-store
            with store_errors(self.settings):
                self.lists.add_batch(bid, life_ms)

    def seal_batch(self, bid: str, firsts: Sequence[int] = ()) -> Recorded:
        """Seal the batch, and confirm these chunks of it; return the deliveries that this made due.

        Raises:
            BatchSealed: It was abandoned, because nothing came from its producer for too long.
            NoSuchBatch: It is gone.
        """
        answer = self._run(self.scripts.seal_batch, bid, *firsts)
        if answer[0] == "abandoned":
            raise abandoned(bid)
        return parse_recorded(answer)

    def abandon_batch(self, bid: str) -> Recorded:
        """Seal the batch if its producers are lost; then the word is `abandoned`."""
        return parse_recorded(self._run(self.scripts.abandon_batch, bid))

    def record_outcome(self, member: Membership, outcome: Outcome) -> Recorded:
        """Count an outcome; return what became of it. If the batch is gone, the word is `gone`.

        Its successors are enrolled before it counts, by scripts of their own if they are very many.
        """
        due: list[str] = []
        while len(outcome.successors) > AT_ONCE:
            part = Outcome(state=State.SUCCEEDED, successors=outcome.successors[:AT_ONCE])
            args = packing.pack_report(member, part, self.settings)
            # safety: all-successors
            word, *more = self._change(self.scripts.enrol_successors, member.bid, *args)
            due += more
            if word not in ("enrolled", "repeated"):
                return Recorded(word=word, due=first_claims(due))
            outcome = replace(outcome, successors=outcome.successors[AT_ONCE:])
        args = packing.pack_report(member, outcome, self.settings)
        word, *more = self._change(self.scripts.record_outcome, member.bid, *args)
        return Recorded(word=word, due=first_claims([*due, *more]))

    def record_successes(self, bid: str, members: Sequence[Membership]) -> list[str]:
        """Count plain successes of enrolled members of one batch, in one round trip for many of them.

        Returns:
            For each of them `counted`, `repeated`, or `apart`: then only `record_outcome` can count it.
        """
        words = [packing.APART] * len(members)
        for group in packing.group_successes(members):
            args = packing.pack_successes([members[n] for n in group])
            for n, word in zip(group, self._answer(self.scripts.record_successes, bid, *args), strict=True):
                words[n] = word
        return words

    def cancel_batch(self, bid: str, *, terminate: bool) -> Recorded:
        """Cancel the batch and announce that to workers; return the deliveries that this made due."""
        answer = self._change(self.scripts.cancel_batch, bid)
        if answer[0] == "gone":
            raise gone(bid)
        with store_errors(self.settings):
            self.lists.add_cancelled(bid, terminate=terminate)
        return parse_recorded(answer)

    def read_cancelled(self) -> dict[str, bool]:
        """Read the cancelled batches, and whether workers end their running members."""
        with store_errors(self.settings):
            return self.lists.read_cancelled()

    def is_cancelled(self, bid: str) -> bool:
        """Whether a batch was cancelled; one that is gone was not."""
        with store_errors(self.settings), type_errors(bid):
            return bool(self.client.hexists(self.keys.batch(bid), "cancelled_at"))

    def record_death(self, bid: str) -> Recorded:
        """Record a death in a batch below this one; return the deliveries that this made due."""
        return parse_recorded(self._change(self.scripts.record_death, bid))

    def renew_batch(self, bid: str, child_abandon_at: int = 0) -> None:
        """Let a batch live on because one of its children does. A batch that is gone is ignored.

        Its producers are not given up before those of that child, at `child_abandon_at` (ms since 1970).
        """
        self._answer(self.scripts.renew_batch, bid, child_abandon_at)

    def check_watches(self, bid: str) -> Recorded:
        """Fire deadlines and stalls whose time has come; return the deliveries that this made due."""
        return parse_recorded(self._run(self.scripts.check_watches, bid))

    def walk_children(self, bid: str) -> Iterator[str]:
        """Yield the bids of a batch's children."""
        with store_errors(self.settings), corrupt_errors(bid):
            for _, child in self.client.hscan_iter(self.keys.part(bid, "children"), count=CHILDREN_PAGE):
                yield check_bid(child.decode())

    def walk_siblings(self, status: BatchStatus) -> Iterator[str]:
        """Yield the bids of the other batches of a batch's parent, if it has one."""
        children = self.walk_children(status.parent_bid) if status.parent_bid else ()
        return (bid for bid in children if bid != status.bid)

    def walk_family(self, bid: str, *, corrupt: bool = False) -> Iterator[str]:
        """Yield the bids of a batch and of all batches below it, each once, parents before their children.

        A batch below it whose list of children cannot be read counts as childless.

        Raises:
            CorruptBatch: The batch's own list of children cannot be read, unless `corrupt` allows that.
        """
        seen, left = {bid}, [bid]
        while left:
            yield (here := left.pop())
            with suppress(*[CorruptBatch] if corrupt or here != bid else []):
                for child in self.walk_children(here):
                    if child not in seen:
                        seen.add(child)
                        left.append(child)

    def walk_ancestors(self, bid: str) -> Iterator[str]:
        """Yield the bids of a batch's parent, grandparent and so on, each once."""
        seen: set[str] = set()
        while bid not in seen:
            seen.add(bid)
            with store_errors(self.settings), corrupt_errors(bid):
                parent: Any = self.client.hget(self.keys.batch(bid), "parent_bid")
                if parent is None:
                    return
                bid = check_bid(parent.decode())
            yield bid

    def delete_batch(self, bid: str, *, family: bool = True) -> bool:
        """Remove the batch, and with its `family` all batches below it; return whether it was there.

        The children go first, so that an interrupted deletion can be repeated. The keys are only unlinked:
        the server frees their memory in the background.
        """
        with store_errors(self.settings):
            for each in reversed(list(self.walk_family(bid, corrupt=True)) if family else [bid]):
                self.count_batch(each)
                removed = self.client.unlink(*self.keys.of_batch(each))
                self.lists.remove_batch(each)
        return bool(removed)

    # -- reading --------------------------------------------------------------------------------

    def read_progress(self, bid: str) -> Progress | None:
        """Read a batch's counters, or None if it is gone."""
        answer = self.read_many([bid])[bid]
        if isinstance(answer, NoSuchBatch):
            return None
        if isinstance(answer, BatchesError):
            raise answer
        return answer.progress

    def read_many(self, bids: Sequence[str]) -> dict[str, parsing.Reading | BatchesError]:
        """Read the progress of batches, or why one cannot be read, in one round trip to each server."""
        now, answers = self._read_fields(bids, parsing.READING_FIELDS)
        return {bid: self._read_one(bid, answer, now) for bid, answer in zip(bids, answers, strict=True)}

    def _read_one(self, bid: str, answer: Any, now: datetime) -> parsing.Reading | BatchesError:
        try:
            with store_errors(self.settings), corrupt_errors(bid):
                values = check_values(bid, answer)
                return parsing.parse_reading(bid, values, now, self.settings.stall_after)
        except BatchesError as exc:
            return exc

    @property
    def listener(self) -> Listener:
        """The listener that serves the followers in this process."""
        return self._kept("listener", lambda: Listener(lambda: self.client, self.read_many))

    def close(self) -> None:
        """Close the connections; the next use opens others."""
        if "listener" in self.__dict__:
            self.listener.close()
        super().close()

    # -- the sweeper's list ---------------------------------------------------------------------

    def sweep_lock(self, seconds: float) -> SweepLock:
        """Make the lock that one sweeper at a time holds, for so many seconds."""
        return SweepLock(self.scripts, self.keys.sweeper, seconds)

    def walk_live(self) -> Iterator[LiveBatch]:
        """Yield the sweeper's view of every live batch."""
        with store_errors(self.settings):
            yield from self.lists.walk_live()

    def retire_batch(self, batch: LiveBatch) -> None:
        """Take a batch that has ended or is gone off the sweeper's list; a later report brings it back."""
        if self._answer(self.scripts.retire_batch, batch.bid)[0] != "live":
            self.count_batch(batch.bid)  # safety: retired-counted
            with store_errors(self.settings):
                self.lists.drop_live(batch)

    def prolong_lists(self, life_ms: int) -> None:
        """Let the lists live for at least so long: the longest life of a batch on them."""
        with store_errors(self.settings):
            self.lists.prolong(life_ms)

    def trimmer(self) -> Trimmer:
        """Make the trimmer, which takes expired batches off the lists."""
        return Trimmer(self.client, self.lists, self.keys, self.scripts)

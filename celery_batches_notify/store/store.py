"""What can be done to a batch's keys: one method per script, and the readings."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from redis.client import Pipeline

from celery_batches_notify.checks import check_bid
from celery_batches_notify.errors import BatchesError, CorruptBatch, NoSuchBatch
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import Progress
from celery_batches_notify.store import packing, parsing
from celery_batches_notify.store.addresses import AddressStore
from celery_batches_notify.store.at_once import read_together
from celery_batches_notify.store.base import check_schema, gone
from celery_batches_notify.store.client import store_errors
from celery_batches_notify.store.deliveries import Claim, DeliveryStore
from celery_batches_notify.store.enrolments import EnrolmentStore, abandoned
from celery_batches_notify.store.errors import corrupt_errors, type_errors
from celery_batches_notify.store.listener import Listener
from celery_batches_notify.store.lists import UNSTORED_SECONDS, LiveBatch, longest_life_ms
from celery_batches_notify.store.members import MemberStore
from celery_batches_notify.store.repairs import RepairStore
from celery_batches_notify.store.retries import RetryStore
from celery_batches_notify.store.statuses import StatusStore
from celery_batches_notify.store.sweep_lock import SweepLock
from celery_batches_notify.store.trimming import Trimmer
from celery_batches_notify.store.workers import WorkerStore

CHILDREN_PAGE = 100
AT_ONCE = 1000  # successors in one script

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the store says of a report: its word (`counted`, `repeated` …), and deliveries now due."""

    word: str
    due: Sequence[str] = ()

    @property
    def claims(self) -> list[Claim]:
        """These deliveries, taken for their first publish: they are leased to whoever made them due."""
        return [Claim(entry=entry, attempts=0) for entry in self.due]


class Store(
    EnrolmentStore,
    DeliveryStore,
    AddressStore,
    RetryStore,
    MemberStore,
    RepairStore,
    StatusStore,
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
            clock: This process's clock, in seconds: an entry whose batch is not stored for long is dropped.
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
            BatchSealed: It was abandoned, for nothing came from its producer for too long.
            NoSuchBatch: It is gone.
        """
        answer = self._run(self.scripts.seal_batch, bid, *firsts)
        if answer[0] == "abandoned":
            raise abandoned(bid)
        return Recorded(word=answer[0], due=answer[1:])

    def abandon_batch(self, bid: str) -> Recorded:
        """Seal the batch if its producers are not heard of any more: then its word is `abandoned`."""
        answer = self._run(self.scripts.abandon_batch, bid)
        return Recorded(word=answer[0], due=answer[1:])

    def record_outcome(self, member: Membership, outcome: Outcome) -> Recorded:
        """Count an outcome; return what became of it. A batch that is gone is no error here.

        Its successors are enrolled before it counts, and by scripts of their own if they are very many.
        """
        due: list[str] = []
        while len(outcome.successors) > AT_ONCE:
            part = Outcome(state=State.SUCCEEDED, successors=outcome.successors[:AT_ONCE])
            args = packing.pack_report(member, part, self.settings)
            # safety: all-successors
            word, *more = self._change(self.scripts.enrol_successors, member.bid, *args)
            due += more
            if word not in ("enrolled", "repeated"):
                return Recorded(word=word, due=due)
            outcome = replace(outcome, successors=outcome.successors[AT_ONCE:])
        args = packing.pack_report(member, outcome, self.settings)
        word, *more = self._change(self.scripts.record_outcome, member.bid, *args)
        return Recorded(word=word, due=[*due, *more])

    def cancel_batch(self, bid: str, *, terminate: bool) -> Recorded:
        """Cancel the batch, and tell workers that it is; return the deliveries that this made due."""
        answer = self._change(self.scripts.cancel_batch, bid)
        if answer[0] == "gone":
            raise gone(bid)
        with store_errors(self.settings):
            self.lists.add_cancelled(bid, terminate=terminate)
        return Recorded(word=answer[0], due=answer[1:])

    def read_cancelled(self) -> dict[str, bool]:
        """Read the cancelled batches, and whether their running members are to be ended."""
        with store_errors(self.settings):
            return self.lists.read_cancelled()

    def is_cancelled(self, bid: str) -> bool:
        """Whether a batch was cancelled; one that is gone was not."""
        with store_errors(self.settings), type_errors(bid):
            return bool(self.client.hexists(self.keys.batch(bid), "cancelled_at"))

    def record_death(self, bid: str) -> Recorded:
        """Note a death in a batch below this one; return the deliveries that this made due."""
        answer = self._change(self.scripts.record_death, bid)
        return Recorded(word=answer[0], due=answer[1:])

    def renew_batch(self, bid: str, child_abandon_at: int = 0) -> None:
        """Let a batch live on: one of its children does. A batch that is gone is no error here.

        Who fills that child until `child_abandon_at` (ms since 1970) is not missed here before.
        """
        self._answer(self.scripts.renew_batch, bid, child_abandon_at)

    def check_watches(self, bid: str) -> Recorded:
        """Fire deadlines and stalls whose time has come; return the deliveries that this made due."""
        answer = self._run(self.scripts.check_watches, bid)
        return Recorded(word=answer[0], due=answer[1:])

    def walk_children(self, bid: str) -> Iterator[str]:
        """Read the bids of a batch's children."""
        with store_errors(self.settings), corrupt_errors(bid):
            for _, child in self.client.hscan_iter(self.keys.part(bid, "children"), count=CHILDREN_PAGE):
                yield check_bid(child.decode())

    def walk_family(self, bid: str, *, corrupt: bool = False) -> Iterator[str]:
        """Read the bids of a batch and of all batches below it, each once, parents before their children.

        A batch below whose list of children cannot be read counts as childless.

        Raises:
            CorruptBatch: The batch's own list of children cannot be read, unless `corrupt` ones may be.
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
        """Read the bids of a batch's parent, of that one's parent, and so on, each once."""
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

        The children go first, so that a deletion that was cut short can be repeated. The keys are only
        unlinked: the server frees what they hold in the background, however much it is.
        """
        with store_errors(self.settings):
            for each in reversed(list(self.walk_family(bid, corrupt=True)) if family else [bid]):
                removed = self.client.unlink(*self.keys.of_batch(each))
                self.lists.remove_batch(each)
        return bool(removed)

    # -- reading --------------------------------------------------------------------------------

    def read_progress(self, bid: str) -> Progress | None:
        """Read a batch's counters, or None where it is gone."""
        answer = self.read_many([bid])[bid]
        if isinstance(answer, NoSuchBatch):
            return None
        if isinstance(answer, BatchesError):
            raise answer
        return answer.progress

    def read_many(self, bids: Sequence[str]) -> dict[str, parsing.Reading | BatchesError]:
        """Read how far batches have come, in one round trip to each server; or why one cannot be read."""

        def queue(pipe: Pipeline) -> None:
            for bid in bids:
                pipe.hmget(self.keys.batch(bid), parsing.READING_FIELDS)

        with store_errors(self.settings):
            clock, answers = read_together(self.client, queue)
        now = parsing.parse_time(clock)
        return {bid: self._read_one(bid, answer, now) for bid, answer in zip(bids, answers, strict=True)}

    def _read_one(self, bid: str, answer: Any, now: datetime) -> parsing.Reading | BatchesError:
        try:
            with store_errors(self.settings), corrupt_errors(bid):
                if isinstance(answer, Exception):
                    raise answer
                check_schema(bid, answer[0])
                return parsing.parse_reading(bid, answer, now, self.settings.stall_after)
        except BatchesError as exc:
            return exc

    @property
    def listener(self) -> Listener:
        """The thread that serves the followers in this process, and what they ask of it."""
        return self._kept("listener", lambda: Listener(lambda: self.client, self.read_many))

    def close(self) -> None:
        """Give the connections back; the next use opens others."""
        if "listener" in self.__dict__:
            self.listener.close()
        super().close()

    # -- the sweeper's list ---------------------------------------------------------------------

    def sweep_lock(self, seconds: float) -> SweepLock:
        """Make the lock that one sweeper holds at a time, for so many seconds."""
        return SweepLock(self.scripts, self.keys.sweeper, seconds)

    def walk_live(self) -> Iterator[LiveBatch]:
        """Read what the sweeper must know of every batch it looks after."""
        with store_errors(self.settings):
            yield from self.lists.walk_live()

    def retire_batch(self, batch: LiveBatch) -> None:
        """Take a batch that is over, or gone, off the sweeper's list; a later report brings it back."""
        if self._answer(self.scripts.retire_batch, batch.bid)[0] != "live":
            with store_errors(self.settings):
                self.lists.drop_live(batch)

    def prolong_lists(self, life_ms: int) -> None:
        """Let the lists live for so long at least: the longest life of a batch on them."""
        with store_errors(self.settings):
            self.lists.prolong(life_ms)

    def trimmer(self) -> Trimmer:
        """Make what takes batches off the lists that have expired."""
        return Trimmer(self.client, self.lists, self.keys)

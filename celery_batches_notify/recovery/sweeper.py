"""The sweeper: any worker finishes what another one left behind."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import cached_property

from celery_batches_notify.delivery.publisher import Publisher
from celery_batches_notify.errors import BatchesError
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.recovery.counting import Counting
from celery_batches_notify.recovery.lost_producers import abandon_batch
from celery_batches_notify.recovery.lost_workers import LostWorkers
from celery_batches_notify.recovery.resend import Resender, resend_left
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.errors import is_away, store_errors
from celery_batches_notify.store.lists import LiveBatch, SweepLock
from celery_batches_notify.store.store import Store
from celery_batches_notify.store.trimming import Trimmer
from celery_batches_notify.worker.away_log import AwayLog
from celery_batches_notify.worker.periodic import PeriodicThread

LOCK_INTERVALS = 1.5

logger = logging.getLogger(__name__)


class Sweeper:
    """A thread in each worker's main process; only one of them sweeps at a time."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        resender: Resender,
        lost: LostWorkers,
        settings: Settings,
        away: AwayLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._lost = lost
        self._resender = resender
        self._publisher = publisher
        self._counting = Counting(store)
        self._settings = settings
        self.done: Counter[str] = Counter()  # read by the command line; a worker never reads it
        interval = settings.sweep_interval.total_seconds()
        self._lock_seconds = interval * LOCK_INTERVALS
        self._clock = clock
        self._held_at: float | None = None
        self._every = PeriodicThread("sweeper", interval, self.sweep_if_leader, away)

    @cached_property
    def _lock(self) -> SweepLock:
        return self._store.sweep_lock(self._lock_seconds)

    @cached_property
    def _trimmer(self) -> Trimmer:
        return self._store.trimmer()

    def start(self) -> None:
        """Start sweeping in the background."""
        self._every.start()

    def stop(self) -> None:
        """Stop after the current batch, and let another process sweep."""
        self._every.stop()
        self._release()

    def sweep(self) -> None:
        """Sweep once: lost workers, every live batch, and a part of the other lists."""
        self._lost.reap()
        longest_life_ms = 0
        for batch in self._store.walk_live():
            if self._every.stopping or not self._keep_lock():  # safety: lock-kept
                return
            longest_life_ms = max(longest_life_ms, batch.life_ms)
            self.done["looked at"] += not batch.gone
            try:
                self._counting.count(batch)
                self.sweep_batch(batch)
            except Exception as exc:
                if is_away(exc):
                    raise
                # One broken batch must not stop the rest.
                self.done["failed"] += 1
                BatchLog(logger, bid=batch.bid).warning("not swept: %r", exc)  # safety: unreadable-batch
        self._counting.end_sweep()
        if longest_life_ms:
            self._store.prolong_lists(longest_life_ms)  # safety: sweep-prolongs
        with store_errors(self._settings):
            self._trimmer.trim()

    def sweep_batch(self, batch: LiveBatch) -> None:
        """Do everything that is due for one live batch: publish, resend, abandon, retire."""
        if batch.gone:
            self._store.retire_batch(batch)
            return
        if batch.parent_bid:
            self._renew_parent(batch.parent_bid, batch.abandon_at)
        if batch.watch_due:
            self._publisher.publish(batch.bid, self._store.check_watches(batch.bid))
        if batch.resend_due:
            self.done["sent again"] += resend_left(self._store, self._resender, batch.bid)
        if batch.abandon_due and not batch.ended:
            abandon_batch(self._store, self._publisher, batch.bid)
            self.done["abandoned"] += 1
        if batch.ended:
            self._store.retire_batch(batch)
            self.done["retired"] += 1
        # safety: sweeper-publishes
        elif batch.has_due and (due := self._store.claim_deliveries(batch.bid)).due:
            count = len(due.due)
            log = BatchLog(logger, bid=batch.bid, count=count)
            log.info("%d callbacks were left behind, and are published now", count)
            self._publisher.publish(batch.bid, due)
            self.done["published"] += count

    def sweep_if_leader(self) -> bool:
        """Sweep unless another process does; return whether this one did."""
        held = self._hold_lock()
        if held and self._every.stopping:  # `stop` has released it already
            self._release()
            return False
        if held:
            self.sweep()
        return held

    def _renew_parent(self, bid: str, child_abandon_at: int) -> None:
        """Renew the parent of a live batch; an error here does not stop the sweep."""
        try:
            self._store.renew_batch(bid, child_abandon_at)
        except BatchesError as exc:
            if is_away(exc):
                raise
            # safety: parent-untouched
            BatchLog(logger, bid=bid).debug("not renewed for its child: %s", exc)  # its own sweep warns

    def _hold_lock(self) -> bool:
        with store_errors(self._settings):
            held = self._lock.hold()
        self._held_at = self._clock()
        return held

    def _keep_lock(self) -> bool:
        """Extend the lock during a long sweep; return False if another process has taken it."""
        held_at = self._held_at
        return held_at is None or self._clock() - held_at < self._lock_seconds / 3 or self._hold_lock()

    def _release(self) -> None:
        self._held_at = None
        try:
            with store_errors(self._settings):
                self._lock.release()
        except BatchesError as exc:
            logger.debug("sweeper's lock not released: %s", exc)

"""Sweeping: any worker publishes what another one left behind."""

from __future__ import annotations

import logging
from collections import Counter
from functools import cached_property

from celery_batches_notify.delivery.publisher import Publisher
from celery_batches_notify.errors import BatchesError, StoreUnavailable
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.connection import store_errors
from celery_batches_notify.store.lists import LiveBatch
from celery_batches_notify.store.store import Store
from celery_batches_notify.store.sweep_lock import SweepLock
from celery_batches_notify.tracking.abandonment import abandon_batch
from celery_batches_notify.tracking.every import Every
from celery_batches_notify.tracking.lost_workers import LostWorkers
from celery_batches_notify.tracking.resend import Resender, resend_left

LOCK_INTERVALS = 1.5

logger = logging.getLogger(__name__)


class Sweeper:
    """A thread in each worker's main process; one of them works at a time."""

    def __init__(
        self, store: Store, publisher: Publisher, resender: Resender, lost: LostWorkers, settings: Settings
    ) -> None:
        self._store = store
        self._lost = lost
        self._resender = resender
        self._publisher = publisher
        self._settings = settings
        self.done: Counter[str] = Counter()  # for the command; a worker's is never read
        interval = settings.sweep_interval.total_seconds()
        self._lock_seconds = interval * LOCK_INTERVALS
        self._every = Every("sweeper", interval, self.turn)

    @cached_property
    def _lock(self) -> SweepLock:
        return self._store.sweep_lock(self._lock_seconds)

    def start(self) -> None:
        """Start sweeping in the background."""
        self._every.start()

    def stop(self) -> None:
        """End the thread, after the batch it is at, and let another process sweep."""
        self._every.stop()
        self._release()

    def sweep(self) -> None:
        """Look once for lost workers, and at every live batch."""
        self._lost.look()
        for batch in self._store.walk_live():
            if self._every.stopping:
                return
            self.done["looked at"] += 1
            try:
                self.look_after(batch)
            except StoreUnavailable:
                raise
            except Exception as exc:  # noqa: BLE001 - one broken batch must not stop the rest
                self.done["failed"] += 1
                BatchLog(logger, bid=batch.bid).warning("not swept: %r", exc)

    def look_after(self, batch: LiveBatch) -> None:
        """Do for one live batch what is due: publish, send again, give up its producer, retire it."""
        if batch.parent_bid:
            self._store.renew_batch(batch.parent_bid, batch.abandon_at)
        if batch.watch_due:
            self._publisher.publish_due(batch.bid, self._store.check_watches(batch.bid).claims)
        if batch.resend_due:
            self.done["sent again"] += resend_left(self._store, self._resender, batch.bid)
        if batch.abandon_due and not batch.ended:
            abandon_batch(self._store, self._publisher, batch.bid)
            self.done["abandoned"] += 1
        if batch.ended:
            self._store.retire_batch(batch)
            self.done["retired"] += 1
        elif batch.has_due and (claims := self._store.claim_deliveries(batch.bid)):
            log = BatchLog(logger, bid=batch.bid, count=len(claims))
            log.info("%d callbacks were left behind, and are published now", len(claims))
            self._publisher.publish_due(batch.bid, claims)
            self.done["published"] += len(claims)

    def turn(self) -> bool:
        """Sweep, if no other process does; return whether this one did."""
        with store_errors(self._settings):
            held = self._lock.hold()
        if held and self._every.stopping:  # `stop` has released it already
            self._release()
            return False
        if held:
            self.sweep()
        return held

    def _release(self) -> None:
        try:
            with store_errors(self._settings):
                self._lock.release()
        except BatchesError as exc:
            logger.debug("sweeper's lock not released: %s", exc)

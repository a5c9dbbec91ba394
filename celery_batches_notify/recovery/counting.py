"""Counts batches while they live: the sweeper, which looks at each of them, adds what has changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from celery_batches_notify.errors import BatchesError
from celery_batches_notify.store.errors import is_away
from celery_batches_notify.store.lists import LiveBatch
from celery_batches_notify.store.store import Store
from celery_batches_notify.store.totals import Numbers

AT_ONCE = 100

logger = logging.getLogger(__name__)

Seen = tuple[Mapping[str, int], tuple[int, int]]


class Counting:
    """Adds to the shared counters what live batches have come to; one that is retired is counted then."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before: dict[str, Seen] = {}  # what the last sweep saw
        self._now: dict[str, Seen] = {}
        self._moved: list[Numbers] = []

    def count(self, batch: LiveBatch) -> None:
        """Count a batch if it has moved since the last sweep. Raises `StoreUnavailable`."""
        if batch.numbers is None:
            return
        seen = self._now[batch.bid] = batch.numbers.numbers, batch.deliveries
        before = self._before.get(batch.bid, (None, (0, 0)))
        if before[1] != batch.deliveries:
            self._store.count_batch(batch.bid)
        elif before[0] != seen[0]:
            self._moved.append(batch.numbers)
        if len(self._moved) >= AT_ONCE:
            self._count_moved()

    def end_sweep(self) -> None:
        """Count the rest, and note when this sweep ended. Raises `StoreUnavailable`."""
        self._count_moved(swept=True)
        self._before, self._now = self._now, {}

    def _count_moved(self, *, swept: bool = False) -> None:
        moved, self._moved = self._moved, []
        try:
            self._store.count_batches(moved, swept=swept)
        except BatchesError as exc:
            if is_away(exc):
                raise
            logger.warning("batches are not counted: %s", exc)  # safety: uncounted-swept

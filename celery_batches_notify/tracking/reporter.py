"""Reporting: an outcome is told to the store again and again until it is counted, within a time limit."""

from __future__ import annotations

import logging
import random
import time

from celery_batches_notify.delivery.outgoing import Outgoing
from celery_batches_notify.errors import BatchesError, StoreUnavailable
from celery_batches_notify.model import DeliveryAttempt, Membership, Outcome
from celery_batches_notify.store.store import Recorded, Store
from celery_batches_notify.tracking.headers import DeliveryRef

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
_EXPECTED = frozenset({"counted", "repeated"})

logger = logging.getLogger(__name__)


class Reporter:
    """Tells the store what became of members and callbacks; never raises, for a user's task must not fail."""

    def __init__(self, store: Store, outgoing: Outgoing, patience_seconds: float) -> None:
        self.patience_seconds = patience_seconds
        self._store = store
        self._outgoing = outgoing

    def report(self, member: Membership, outcome: Outcome, *, seconds: float) -> None:
        """Count an outcome, trying for so many seconds while the store is away."""
        fields = {"bid": member.bid, "task_id": member.task_id, "state": outcome.state.name.lower()}
        try:
            recorded = self._insist(member, outcome, seconds)
        except BatchesError as exc:
            logger.critical("batch outcome not counted: %s", exc, extra=fields)
            return
        if recorded.word not in _EXPECTED:
            logger.warning("batch outcome changes nothing: %s", recorded.word, extra=fields)
        if recorded.due:
            self._outgoing.submit(member.bid, recorded.claims)

    def settle(
        self,
        ref: DeliveryRef,
        happened: str,
        *,
        delay_seconds: float = 0,
        log: DeliveryAttempt | None = None,
    ) -> None:
        """Note what became of a callback."""
        try:
            self._store.settle_delivery(ref.bid, ref.entry, happened, 0, delay_seconds=delay_seconds, log=log)
        except BatchesError as exc:
            fields = {"bid": ref.bid, "delivery": ref.entry}
            logger.error("batch delivery not settled: %s", exc, extra=fields)

    def _insist(self, member: Membership, outcome: Outcome, seconds: float) -> Recorded:
        deadline = time.monotonic() + seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return self._store.record_outcome(member, outcome)
            except StoreUnavailable:
                if time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 - jitter
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

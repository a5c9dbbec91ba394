"""Reconcile batches that stand still, so that members lost by the broker end without an operator."""

from __future__ import annotations

import logging

from celery_batches_notify.doctor.reconcile import Repairs, reconcile_batch
from celery_batches_notify.engine import Engine
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.store.errors import is_away
from celery_batches_notify.worker.periodic import PeriodicThread

BATCHES_AT_ONCE = 100
RUNS_PER_AFTER = 4  # so a batch waits at most a quarter longer than necessary

logger = logging.getLogger(__name__)


class StillBatches:
    """A thread in each worker's main process, if `batches_vanished` asks for it.

    It calls `reconcile_batch` for each batch that stands still. The first worker to claim one does so, and
    the others leave it alone for `batches_vanished_after`. Asking the broker and the workers takes seconds,
    so the sweeper does not do this.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._after = engine.settings.vanished_after.total_seconds()
        self._every = PeriodicThread(
            "still batches", self._after / RUNS_PER_AFTER, self.reconcile, engine.away
        )

    def start(self) -> None:
        """Start, unless `batches_vanished` is `leave`."""
        if self._engine.settings.vanished != "leave":
            self._every.start()

    def stop(self) -> None:
        """Stop after the current batch."""
        self._every.stop()

    def reconcile(self) -> None:
        """Reconcile at most a hundred live batches that stand still. Raises `StoreUnavailable`."""
        store, claimed = self._engine.store, 0
        for batch in store.walk_live():
            if self._every.stopping or claimed == BATCHES_AT_ONCE:
                return
            if batch.gone or batch.ended or batch.quiet_seconds < self._after:
                continue
            try:
                if store.claim_examination(batch.bid, self._after):
                    claimed += 1
                    how = self._engine.settings.vanished
                    self._log(batch.bid, reconcile_batch(self._engine, batch.bid, vanished=how))
            except Exception as exc:
                if is_away(exc):
                    raise
                # One broken batch, or a broker that refuses a message, must not stop the rest.
                BatchLog(logger, bid=batch.bid).warning("it stands still, and is left alone: %r", exc)

    def _log(self, bid: str, repairs: Repairs) -> None:
        log = BatchLog(logger, bid=bid)
        if repairs.vanished or repairs.resent:
            log.warning(
                "it stood still: %d vanished members are dead, %d were sent again",
                repairs.vanished,
                repairs.resent,
            )
        for note in repairs.notes:
            log.info("it stands still: %s", note)

"""Cancelling: every worker reads the cancelled batches, and discards their members as they arrive."""

from __future__ import annotations

import contextlib
import logging
from typing import Any
from weakref import ref

from celery.concurrency.base import BasePool
from celery.worker import state as worker_state

from celery_batches_notify.errors import BatchesError
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.messages.headers import HEADER
from celery_batches_notify.store.store import Store
from celery_batches_notify.worker.away_log import AwayLog
from celery_batches_notify.worker.periodic import PeriodicThread
from celery_batches_notify.worker.received import ReceivedRequests

READ_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Cancellation:
    """The cancelled batches, as the worker's main process has read them: at its start, then every 2 s."""

    def __init__(self, store: Store, away: AwayLog) -> None:
        self._store = store
        self._bids: dict[str, bool] = {}
        self._every = PeriodicThread("cancellation", READ_SECONDS, self.read, away)
        self._received = ReceivedRequests()
        self._pool: Any = None

    def start(self, received: ReceivedRequests, pool: Any) -> None:
        """Begin to read the cancelled batches, and to revoke their members among these requests."""
        self._received, self._pool = received, pool
        with contextlib.suppress(BatchesError):  # the thread logs the next failure
            self.read()
        self._every.start()

    def stop(self) -> None:
        """End the thread."""
        self._every.stop()

    def discard(self, request: Any) -> None:
        """Revoke an arriving member of a cancelled batch."""
        if self._bids and (bid := self._bid_of(request)) in self._bids:
            _revoke(request, bid)

    def knows(self, bid: str) -> bool:
        """Return whether this worker knows that a batch is cancelled."""
        return bid in self._bids

    def read(self) -> None:
        """Read the cancelled batches, and revoke their members that this worker has received."""
        bids = self._store.read_cancelled()
        fresh = {bid for bid, terminate in bids.items() if self._bids.get(bid) != terminate}
        self._bids = bids
        if not fresh:
            return
        for request in self._received:
            if (bid := self._bid_of(request)) in fresh:
                _revoke(request, bid)
                if bids[bid] and request in worker_state.reserved_requests:
                    self._terminate(request)

    def _terminate(self, request: Any) -> None:
        """Terminate a task: at once, or as soon as the pool begins it."""
        if getattr(self._pool.terminate_job, "__func__", None) is BasePool.terminate_job:
            log = BatchLog(logger, bid=self._bid_of(request), task_id=request.id)
            log.warning("this pool cannot terminate the running task %s", request.id)
        else:
            request.terminate(self._pool)

    def _bid_of(self, request: Any) -> str:
        """Return a member's batch, or "" for any other message: a cancelled batch's callbacks run."""
        header = request.request_dict.get(HEADER)
        return str(header.get("bid")) if isinstance(header, dict) and "delivery" not in header else ""


def _revoke(request: Any, bid: str) -> None:
    """Make Celery find this request revoked when it is about to run it.

    Celery's own revoked set holds 50,000 ids and drops the oldest, so a big batch would push out the tasks
    that the user revoked.
    """
    of_request = ref(request)  # no cycle: a request that has ended must be freed at once

    def revoked() -> bool:
        it = of_request()
        if it is not None and not it._already_revoked:
            log = BatchLog(logger, bid=bid, task_id=it.id)
            log.info("the task %s is discarded, because its batch is cancelled", it.id)
            it._announce_revoked("revoked", False, None, False)
        return True

    request.revoked = revoked  # safety: own-revoked

"""End or resend the tasks of workers whose lease has expired."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from billiard.exceptions import WorkerLostError
from celery.app.task import Context

from celery_batches_notify.delivery.publisher import Publisher
from celery_batches_notify.delivery.settling import worker_lost
from celery_batches_notify.errors import BatchesError
from celery_batches_notify.log_lines import BatchLog, log_fields
from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.headers import DeliveryRef
from celery_batches_notify.recovery.resend import Resender
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.errors import is_away
from celery_batches_notify.store.store import Store
from celery_batches_notify.store.workers import Beat, task_of
from celery_batches_notify.worker import outcomes
from celery_batches_notify.worker.heartbeat import Heartbeat
from celery_batches_notify.worker.in_flight import InFlight, read_in_flight

logger = logging.getLogger(__name__)


class LostWorkers:
    """Part of the sweeper. Every step is safe to repeat, so the next sweep continues an interrupted one."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        resender: Resender,
        heartbeat: Heartbeat,
        settings: Settings,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._resender = resender
        self._heartbeat = heartbeat
        self._lease = settings.worker_lease.total_seconds()
        self._resend = settings.lost_members == "resend"

    def reap(self) -> None:
        """Settle the tasks of all lost workers, once. Raises `StoreUnavailable`.

        It waits if this worker itself was cut off from the store, because then others may have been too, and
        if the store's clock was set, because then every worker looks lost.
        """
        clock_ms, silent = self._store.find_silent(self._lease)
        if not silent or not self._heartbeat.trusts(clock_ms):  # safety: cut-off-judges-nobody
            return
        lost = {beat.wid for beat in silent}
        living = [beat.wid for beat in self._store.read_beats() if beat.wid not in lost]
        for beat in silent:  # safety: lost-settled
            try:
                self._reap_worker(beat, living)
            except BatchesError as exc:
                if is_away(exc):
                    raise
                logger.warning(
                    "batches: lost worker %s is left: %s", beat.wid, exc, extra=log_fields(worker=beat.wid)
                )

    def _reap_worker(self, lost: Beat, living: Sequence[str]) -> None:
        kept = 0
        for chunk in self._store.walk_records(lost.wid):
            done = [field for field, record in chunk.items() if self._settle(lost.wid, field, record, living)]
            self._store.remove_records(lost.wid, done)
            kept += len(chunk) - len(done)
        if not kept:
            self._store.drop_worker(lost)

    def _settle(self, wid: str, field: str, record: bytes, living: Sequence[str]) -> bool:
        """Settle one task of a lost worker; return whether its record can be removed."""
        task_id = task_of(field)
        try:
            held = read_in_flight(field, record)
        except (ValueError, TypeError) as exc:
            logger.warning(
                "batches: the record of task %s cannot be read: %r",
                task_id,
                exc,
                extra=log_fields(task_id=task_id, worker=wid),
            )
            return True
        if held is None or held.went_on or self._store.is_recorded(living, field):  # safety: lost-or-running
            return True  # another worker has the same message, and will report it
        log = BatchLog(logger, bid=held.identity.bid, task_id=task_id, worker=wid)
        try:
            if isinstance(held.identity, DeliveryRef):
                self._requeue_callback(held.identity, held.task)
            else:
                self._end(held.identity, held)
        except BatchesError as exc:
            if is_away(exc):
                raise
            log.warning("task %s of a lost worker is left to another worker: %s", task_id, exc)
            return False
        except Exception:
            log.exception("task %s was lost with its worker, and is not settled yet", task_id)
            return False
        log.warning("task %s was lost with its worker", task_id)
        return True

    def _requeue_callback(self, ref: DeliveryRef, task: str) -> None:
        """Make a callback due again; the store gives it up if it keeps getting lost."""
        self._store.settle_delivery(ref.bid, ref.entry, "lost", 0, note=worker_lost(task), number=ref.number)

    def _end(self, member: Membership, held: InFlight) -> None:
        error = WorkerLostError("the worker that ran it was killed or cut off from the store")
        request = Context(id=held.task_id, retries=held.retries)
        outcome = outcomes.dead(request, held.task, "lost", error)
        call, unsendable = held.call
        outcome = dataclasses.replace(outcome, resend=call, unsendable=unsendable, successors=held.successors)
        if self._resend and call and not held.successors and not member.turn:
            retaken = self._store.resend_lost(member, outcome)
            self._publisher.publish(member.bid, retaken)
            if retaken.again is not None:
                self._resender.send(member.bid, [retaken.again])
                self._store.confirm_retries(member.bid, [retaken.again], done=False)
            if retaken.word not in ("cancelled", "exhausted"):
                return
        self._publisher.publish(member.bid, self._store.record_outcome(member, outcome))

"""A worker's heartbeat: the store learns that the worker lives, and which tasks it would lose if it died.

A message that was acknowledged early is gone when its worker is killed. So the worker's main process records
each member right before its acknowledgement leaves, without waiting for a reply: the record is sent first,
and the kernel delivers it even if the process is killed. A member that ends before it is acknowledged, as
`acks_late` makes it, needs no record. A callback is recorded as it arrives, because a broker may take an hour
to hand it out again.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker import state as worker_state

from celery_batches_notify.errors import BatchesError
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.headers import HEADER
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.one_way_connection import OneWayConnection
from celery_batches_notify.store.store import Store
from celery_batches_notify.worker.away_log import AwayLog
from celery_batches_notify.worker.in_flight import field_of, write_in_flight, write_note
from celery_batches_notify.worker.periodic import PeriodicThread

BEATS_PER_LEASE = 4
REOPEN_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Heartbeat:
    """One worker's lease in the store, and its records of tasks in flight.

    Args:
        store: Where both are kept.
        settings: How long a lease is, and whether a record must suffice to send its task again.
        away: Logs that the store is away.
        clock: The monotonic clock.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        away: AwayLog | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._lease = settings.worker_lease.total_seconds()
        self._keep = settings.retry_kept > 0 or settings.lost_members == "resend"
        self._clock = clock
        self._ending = False
        self._beating = threading.Lock()  # the last beat comes from another thread
        self._wid: str | None = None
        self._connection: OneWayConnection | None = None
        self._lock = threading.Lock()
        self._records: dict[str, weakref.ref[Any]] = {}  # the requests, by field
        self._cancelled: list[Any] = []
        self._ended: set[str] = set()  # fields whose records are still to be removed
        self._last_beat: tuple[float, int] | None = None
        self._steady_since = 0.0
        self._reopen_at = 0.0
        self._every = PeriodicThread("lease", self._lease / BEATS_PER_LEASE, self.beat, away)

    def name(self, hostname: str) -> None:
        """Give this worker its id, before the pool forks: its children write notes under it."""
        self._ending = False
        self._wid = f"{hostname}/{secrets.token_hex(4)}"
        self._connection = self._store.one_way_connection(self._wid)

    def start(self) -> None:
        """Begin to beat: once before this returns, so that the first record finds a connection."""
        try:
            self.beat()
        except BatchesError as exc:
            logger.warning("batches: this worker's lease has not begun yet: %s", exc)
        self._every.start()

    def stop(self) -> None:
        """End the lease once no task is in flight; if the process exits before that, the lease runs out."""
        self._ending = True
        try:
            self.beat()
        except BatchesError as exc:
            self._every.stop()
            logger.warning("batches: this worker's lease was not ended, so it will run out: %s", exc)

    def watch(self, request: Any) -> None:
        """Record a message that arrived before it is acknowledged, and a callback's at once."""
        header = request.request_dict.get(HEADER)
        if self._connection is None or not isinstance(header, dict):
            return
        if "delivery" in header:
            self._record(request)  # safety: callback-in-flight
        else:
            message = request.message
            message.ack = partial(self._acknowledge, weakref.ref(request), message, message.ack)

    def keep_record(self, request: Any) -> None:
        """Keep the record of a task that Celery cancels as it shuts down: no signal will report its loss."""
        if (ref := self._records.get(_field_of(request))) is not None:
            self._cancelled.append(ref())

    def note_departure(self, request: Any, member: Membership) -> None:
        """Note that the running task's own retry or replacement has left, so its record no longer holds."""
        self._note(request, member, went_on=True)

    def note_successors(self, request: Any, member: Membership, sent: tuple[Membership, ...]) -> None:
        """Note which successors the running task has published: they survive it if it is lost."""
        self._note(request, member, sent=sent)

    def trusts(self, clock_ms: int) -> bool:
        """Return whether this worker may judge others by a time that it has just read from the store.

        It must have beaten for a whole lease without a break, else other workers may be late as well; and
        the store's clock must have kept pace with its own, else a living worker's beat may look old.
        """
        now, last = self._clock(), self._last_beat
        return (
            last is not None
            and now - last[0] < self._lease / 2
            and now - self._steady_since >= self._lease
            and not self._jumped(last, now, clock_ms)  # safety: clock-jumped
        )

    def beat(self) -> None:
        """Renew the lease, and bring the records up to date. Raises `StoreUnavailable`."""
        with self._beating:
            is_over = self._beat()
        if is_over:
            self._every.stop()

    def _beat(self) -> bool:
        """Beat once; return whether it was the last time."""
        if self._wid is None or self._connection is None:
            return True
        try:
            self._note_beat(self._store.beat_worker(self._wid))
        except BatchesError:
            self._last_beat = None
            raise
        ending = self._ending  # before the records are read: a later one is left to the next beat
        in_flight = self._sort_records()
        if ending and not in_flight:
            self._store.remove_worker(self._wid)
            self._connection.close()
            self._wid = self._connection = None
            return True
        if in_flight:
            self._store.write_records(self._wid, in_flight)
        try:
            self._connection.check()
            self._connection.open()
        except BatchesError as exc:
            logger.warning("batches: tasks that begin now are recorded by the next beat only: %s", exc)
        return False

    def _note_beat(self, clock_ms: int) -> None:
        """Note a beat, and whether it came in time after the last one."""
        now, last = self._clock(), self._last_beat
        self._last_beat = (now, clock_ms)
        if last is None or now - last[0] > self._lease / 2 or self._jumped(last, now, clock_ms):
            self._steady_since = now

    def _jumped(self, last: tuple[float, int], now: float, clock_ms: int) -> bool:
        """Return whether the store's clock did not keep pace with our own since a beat."""
        return abs((clock_ms - last[1]) / 1000 - (now - last[0])) > self._lease / BEATS_PER_LEASE

    def _acknowledge(
        self, received: weakref.ref[Any], message: Any, ack: Callable[..., Any], **how: Any
    ) -> Any:
        message.__dict__.pop("ack", None)  # it refers to the message: a cycle
        request = received()
        if request is not None and request in worker_state.reserved_requests:
            try:
                self._record(request)  # safety: in-flight-first
            except Exception:  # the acknowledgement must leave
                log = BatchLog(logger, bid=_bid_of(request), task_id=request.id)
                log.exception("task %s is not recorded as in flight", request.id)
        return ack(**how)

    def _record(self, request: Any) -> None:
        headers = request.request_dict
        nesting, retries = headers.get("replaced_task_nesting"), headers.get("retries")
        field = field_of(request.id, headers[HEADER], nesting, retries)
        if self._connection is not None and self._connection.is_open:
            self._connection.send(field.encode(), write_in_flight(request, keep=self._keep))
        with self._lock:
            self._records[field] = weakref.ref(request)

    def _sort_records(self) -> dict[str, bytes]:
        """Remove the records of tasks that have ended; return the others."""
        with self._lock:
            records = list(self._records.items())
        in_flight = {}
        for field, ref in records:
            request = ref()
            if request is not None and (request in self._cancelled or _is_in_flight(request)):
                in_flight[field] = write_in_flight(request, keep=self._keep)
                continue
            with self._lock:
                if self._records.get(field) is ref:
                    del self._records[field]
            self._ended.add(field)
        if self._ended and self._wid is not None:
            self._store.remove_records(self._wid, self._ended)
            self._ended.clear()
        return in_flight

    def _note(
        self, request: Any, member: Membership, *, went_on: bool = False, sent: tuple[Membership, ...] = ()
    ) -> None:
        connection = self._connection
        if connection is None or request.is_eager or not (connection.is_open or self._reopen(connection)):
            return
        note = write_note(member, request, went_on=went_on, sent=sent)
        connection.replace(_field_of(request).encode(), note)

    def _reopen(self, connection: OneWayConnection) -> bool:
        """Connect in a pool's child, which does not beat; not again for a while if that failed."""
        now = self._clock()
        if now < self._reopen_at:
            return False
        self._reopen_at = now + REOPEN_SECONDS
        try:
            connection.open()
        except BatchesError:
            return False
        return True


def _field_of(request: Any) -> str:
    header = getattr(request, HEADER, None) or {}
    return field_of(request.id, header, request.replaced_task_nesting, request.retries)


def _bid_of(request: Any) -> str:
    header = request.request_dict.get(HEADER)
    return str(header.get("bid")) if isinstance(header, dict) else "?"


def _is_in_flight(request: Any) -> bool:
    """Return whether a request waits or runs here; Celery forgets it first of all when it ends."""
    return request.time_start is None or request in worker_state.reserved_requests

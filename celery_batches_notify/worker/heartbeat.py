"""Leases: a worker says that it lives, and what it is about to acknowledge, so that others know what it lost.

A message that was acknowledged early is gone when its worker is killed. So the worker's main process marks
each member right before its acknowledgement leaves, without waiting for a reply: the mark is on its way
first, and the kernel delivers it though the process is gone. A member that has ended by then, as one that is
acknowledged late has, needs no mark. A callback is marked as it arrives, since a broker may hand it out
again only after an hour.
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
    """One worker's lease: named before the pool forks, so that its children can add notes."""

    def __init__(self, store: Store, settings: Settings, away: AwayLog | None = None) -> None:
        self._store = store
        self._lease = settings.worker_lease.total_seconds()
        self._keep = settings.retry_kept > 0 or settings.lost_members == "resend"
        self._ending = False
        self._beating = threading.Lock()  # the last beat comes from another thread
        self._wid: str | None = None
        self._wire: OneWayConnection | None = None
        self._lock = threading.Lock()
        self._marked: dict[str, tuple[weakref.ref[Any], bool]] = {}  # what was marked, and whether it left
        self._lost: list[Any] = []
        self._ended: set[str] = set()  # marks that are still to be removed
        self._beaten: tuple[float, int] | None = None
        self._steady_since = 0.0
        self._retry_at = 0.0
        self._every = PeriodicThread("lease", self._lease / BEATS_PER_LEASE, self.beat, away)

    def name(self, hostname: str) -> None:
        """Give this worker the id under which it is known from now on."""
        self._ending = False
        self._wid = f"{hostname}/{secrets.token_hex(4)}"
        self._wire = self._store.one_way_connection(self._wid)

    def start(self) -> None:
        """Begin to beat: once at once, so that the first mark finds all in place."""
        try:
            self.beat()
        except BatchesError as exc:
            logger.warning("batches: this worker's lease has not begun yet: %s", exc)
        self._every.start()

    def stop(self) -> None:
        """End the lease as soon as nothing is held any more; a process that ends before lets it run out."""
        self._ending = True
        try:
            self.beat()
        except BatchesError as exc:
            self._every.stop()
            logger.warning("batches: this worker's lease runs out, for it was not ended: %s", exc)

    def watch(self, request: Any) -> None:
        """Let the message that arrived leave a mark before it is acknowledged; a callback's at once."""
        mark = request.request_dict.get(HEADER)
        if self._wire is None or not isinstance(mark, dict):
            return
        if "delivery" in mark:
            self._mark(request)  # safety: callback-in-flight
        else:
            message = request.message
            message.ack = partial(self._acknowledge, weakref.ref(request), message, message.ack)

    def keep_record(self, request: Any) -> None:
        """Keep the mark of what Celery cancels as it shuts down: nothing else will tell that it has gone."""
        ref, _ = self._marked.get(_field_of(request), (None, False))
        if ref is not None:
            self._lost.append(ref())

    def note_departure(self, request: Any, member: Membership) -> None:
        """Say that the running task's own retry or replacement has left: what it was marked with is void."""
        self._note(request, member, went_on=True)

    def note_successors(self, request: Any, member: Membership, sent: tuple[Membership, ...]) -> None:
        """Say which late members the running task has published: if it is lost, they are not."""
        self._note(request, member, sent=sent)

    def trusts(self, clock_ms: int) -> bool:
        """Whether this worker may judge others by a time that it has just read from the store.

        It has beaten for a whole lease without a break, else others may be late as well; and the store's
        clock went all that time as its own did, else a living worker's beat may look old.
        """
        now, beaten = time.monotonic(), self._beaten
        return (
            beaten is not None
            and now - beaten[0] < self._lease / 2
            and now - self._steady_since >= self._lease
            and not self._jumped(beaten, now, clock_ms)  # safety: clock-jumped
        )

    def beat(self) -> None:
        """Say that this worker lives, and bring its marks up to date. Raises `StoreUnavailable`."""
        with self._beating:
            over = self._beat()
        if over:
            self._every.stop()

    def _beat(self) -> bool:
        """Beat once; return whether it was the last time."""
        if self._wid is None or self._wire is None:
            return True
        try:
            self._see(self._store.beat_worker(self._wid))
        except BatchesError:
            self._beaten = None
            raise
        ending = self._ending  # before looking: what is marked from now on is looked at by another beat
        held = self._sort_out()
        if ending and not held:
            self._store.remove_worker(self._wid)
            self._wire.close()
            self._wid = self._wire = None
            return True
        if held:
            self._store.write_marks(self._wid, held)
            with self._lock:
                self._marked.update({f: (self._marked[f][0], True) for f in held if f in self._marked})
        try:
            self._wire.check()
            self._wire.open()
        except BatchesError as exc:
            logger.warning("batches: what this worker begins is marked late: %s", exc)
        return False

    def _see(self, clock_ms: int) -> None:
        """Note a beat, and where it did not follow the last one as it should."""
        now, last = time.monotonic(), self._beaten
        self._beaten = (now, clock_ms)
        if last is None:
            self._steady_since = now
            return
        if now - last[0] > self._lease / 2 or self._jumped(last, now, clock_ms):
            self._steady_since = now

    def _jumped(self, last: tuple[float, int], now: float, clock_ms: int) -> bool:
        """Whether the store's clock did not go as our own since a beat."""
        return abs((clock_ms - last[1]) / 1000 - (now - last[0])) > self._lease / BEATS_PER_LEASE

    def _acknowledge(self, held: weakref.ref[Any], message: Any, ack: Callable[..., Any], **how: Any) -> Any:
        message.__dict__.pop("ack", None)  # it holds the message in a circle
        request = held()
        if request is not None and request in worker_state.reserved_requests:
            try:
                self._mark(request)  # safety: in-flight-first
            except Exception:  # the acknowledgement must leave
                log = BatchLog(logger, bid=_bid_of(request), task_id=request.id)
                log.exception("task %s is not named in this worker's lease", request.id)
        return ack(**how)

    def _mark(self, request: Any) -> None:
        headers = request.request_dict
        nesting, retries = headers.get("replaced_task_nesting"), headers.get("retries")
        field = field_of(request.id, headers[HEADER], nesting, retries)
        left = self._wire is not None and self._wire.is_open
        if left and self._wire is not None:
            left = self._wire.send(field.encode(), write_in_flight(request, keep=self._keep))
        with self._lock:
            self._marked[field] = (weakref.ref(request), left)

    def _sort_out(self) -> dict[str, bytes]:
        """Remove the marks of what has ended; return those of what this worker holds."""
        with self._lock:
            marked = list(self._marked.items())
        held = {}
        for field, (ref, left) in marked:
            request = ref()
            if request is not None and (request in self._lost or _is_held(request)):
                held[field] = write_in_flight(request, keep=self._keep)
                continue
            with self._lock:
                if self._marked.get(field) == (ref, left):
                    del self._marked[field]
            if left:
                self._ended.add(field)
        if self._ended and self._wid is not None:
            self._store.remove_marks(self._wid, self._ended)
            self._ended.clear()
        return held

    def _note(
        self, request: Any, member: Membership, *, went_on: bool = False, sent: tuple[Membership, ...] = ()
    ) -> None:
        wire = self._wire
        if wire is None or request.is_eager or not (wire.is_open or self._reopen(wire)):
            return
        wire.replace(_field_of(request).encode(), write_note(member, request, went_on=went_on, sent=sent))

    def _reopen(self, wire: OneWayConnection) -> bool:
        """Connect in a child, where nobody beats; not again for a while if that failed."""
        now = time.monotonic()
        if now < self._retry_at:
            return False
        self._retry_at = now + REOPEN_SECONDS
        try:
            wire.open()
        except BatchesError:
            return False
        return True


def _field_of(request: Any) -> str:
    mark = getattr(request, HEADER, None) or {}
    return field_of(request.id, mark, request.replaced_task_nesting, request.retries)


def _bid_of(request: Any) -> str:
    mark = request.request_dict.get(HEADER)
    return str(mark.get("bid")) if isinstance(mark, dict) else "?"


def _is_held(request: Any) -> bool:
    """Whether a request waits here, or runs; Celery forgets it first of all when it ends."""
    return request.time_start is None or request in worker_state.reserved_requests

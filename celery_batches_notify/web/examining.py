"""A costly search for a batch's members: a click asks broker and workers, at most once in 10 seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from celery_batches_notify.doctor.examination import Examination, examine_batch
from celery_batches_notify.engine import Engine
from celery_batches_notify.web.answers import Problem
from celery_batches_notify.web.newest import keep_newest

KEPT_SECONDS = 10.0
KEPT = 100
WAITERS_AT_MOST = 8  # each holds one of the 40 threads that draw pages and streams
MEMBERS_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """The result of a search for members, and its time."""

    at: datetime
    found: Examination


@dataclass(slots=True)
class Examiner:
    """Searches for members, and keeps the result for a while, so that simultaneous requests share it.

    Args:
        clock: A monotonic clock, in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _kept: dict[str, tuple[float, Examined]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _places: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(WAITERS_AT_MOST)
    )

    def examine(self, engine: Engine, bid: str) -> Examined:
        """Return where a batch's members are.

        Raises:
            Problem: Too many others wait for a search already. Also the errors of `read_view`.
        """
        if not self._places.acquire(blocking=False):  # safety: examinations-capped
            raise Problem(
                503, "busy", "Others ask broker and workers just now. This page tries again by itself."
            )
        try:
            return self._examine_once(engine, bid)
        finally:
            self._places.release()

    def _examine_once(self, engine: Engine, bid: str) -> Examined:
        with self._lock:  # one search at a time: each asks all workers
            kept = self._kept.get(bid)
            if kept is None or self.clock() >= kept[0] + KEPT_SECONDS:  # safety: examination-kept
                found = examine_batch(engine, bid, MEMBERS_NAMED)
                kept = self.clock(), Examined(at=datetime.now(UTC), found=found)
                keep_newest(self._kept, bid, kept, KEPT)
            return kept[1]

"""The pace of a watched batch, measured from its counters without reading its status each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from celery_batches_notify.model import BatchStatus, Progress
from celery_batches_notify.pace import Curve, Pace, measure_pace

POINTS_AT_MOST = 1_000
COUNTERS = ("state", "total", "pending", "succeeded", "failures", "dead")


class ObservedPace:
    """Measures how fast one batch moves.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._status: BatchStatus | None = None
        self._read: tuple[datetime, float] | None = None
        self._curve: list[tuple[datetime, int]] = []

    def begin(self, status: BatchStatus, curve: Curve, now: datetime) -> None:
        """Take note of a status and its past, and of the store's time when they were read."""
        self._curve = self._curve or [*curve]
        self._status, self._read = status, (now, self._clock())
        self._curve.append((now, status.succeeded + status.dead))

    def see(self, progress: Progress) -> None:
        """Take note of the counters as they were read just now."""
        if self._status is None:
            return
        counters = {name: getattr(progress, name) for name in COUNTERS}
        if counters != {name: getattr(self._status, name) for name in COUNTERS}:
            now = self._now()
            self._status = replace(self._status, **counters, moved_at=now)
            self._curve.append((now, progress.ended))
            if len(self._curve) > POINTS_AT_MOST:
                del self._curve[1::2]

    def measure(self) -> Pace | None:
        """Return the pace, or None before a status was read."""
        return measure_pace(self._status, self._curve, self._now()) if self._status else None

    def _now(self) -> datetime:
        """The store's time."""
        at, clock = self._read or (datetime.min, 0.0)
        return at + timedelta(seconds=self._clock() - clock)

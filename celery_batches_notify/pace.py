"""How fast a batch moves, and about how long it still takes, if that can be said. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from celery_batches_notify.headline import describe_duration

if TYPE_CHECKING:
    from celery_batches_notify.model import BatchStatus

Curve = Sequence[tuple[datetime, int]]

WINDOWS = 5
LEAST, MOST = 0.6, 2.5  # the range held in 9 of 10 simulated runs, unless what is left is of another kind
SHOWN_AT_LEAST, SHOWN_AT_MOST = timedelta(seconds=10), timedelta(minutes=5)
STILL_AFTER, STILL_GAPS = timedelta(seconds=30), 5
TAIL, TAIL_SHARE = 16, 0.01
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_RATES = ((1, "s", 100.0), (60, "min", 1.0), (3600, "h", 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast members end, and how long the rest takes at that pace.

    Attributes:
        per_second: Members that ended per second lately, or None if nothing can be said.
        left: How many members have not ended.
        seconds: How long these take at this pace, or None if no number would be true.
        seconds_low: The lower bound of that: nine of ten batches take longer.
        seconds_high: The upper bound.
        why: The words instead of a number, such as `the last 12`; perhaps empty.
    """

    left: int
    per_second: float | None = None
    seconds: float | None = None
    seconds_low: float | None = None
    seconds_high: float | None = None
    why: str = ""

    @property
    def rate(self) -> str:
        """The pace in words, such as `412/min`; empty if it is not known."""
        return _describe_rate(self.per_second) if self.per_second else ""

    @property
    def time_left(self) -> str:
        """The time left in words, such as `about 8 min at this pace (5–20 min)`, or why it is unknown."""
        if self.seconds is None or self.seconds_low is None or self.seconds_high is None:
            return self.why
        about, low, high = (_round(s) for s in (self.seconds, self.seconds_low, self.seconds_high))
        first = low[0] if low[1] == high[1] else f"{low[0]} {low[1]}"
        span = "" if low == high else f" ({first}–{high[0]} {high[1]})"
        return f"about {about[0]} {about[1]} at this pace{span}"

    @property
    def words(self) -> str:
        """The rate and the time left in one line, perhaps empty."""
        return " · ".join(part for part in (self.rate, self.time_left) if part)

    def as_dict(self) -> dict[str, Any]:
        """Return the pace as JSON; unknown values are null."""
        return {
            "pace_per_second": _rounded(self.per_second),
            "left": self.left,
            "seconds_low": _rounded(self.seconds_low),
            "seconds_high": _rounded(self.seconds_high),
            "why": self.why or None,
        }


def measure_pace(status: BatchStatus, curve: Curve, now: datetime) -> Pace:
    """Say how fast a batch moves, and how long the rest takes.

    Args:
        status: The batch.
        curve: How many members had ended when, in order, from the first end on. What is not known may be
            missing; the present is added.
        now: When the status was read.
    """
    ended = status.succeeded + status.dead
    left = status.total - ended
    if status.finish_at is not None or status.cancelled_at is not None:
        return Pace(left=left)
    if status.sealed_at is None:
        return Pace(left=left, why="still growing")
    if not ended:
        return Pace(left=left)
    line = _complete(curve, status, ended, now)
    elapsed = line[-1][0] - line[0][0]
    per_second = _shown(line, elapsed)
    if why := _explain(status, left, elapsed, ended, now):
        return Pace(left=left, per_second=None if why.startswith("no movement") else per_second, why=why)
    return _estimate(line, elapsed, left, per_second)


def _complete(curve: Curve, status: BatchStatus, ended: int, now: datetime) -> list[tuple[datetime, int]]:
    """Add what is known of the beginning and the present, and leave out what does not grow."""
    known = [(at, n) for at, n in curve if at < now and n < ended] or [(status.created_at, 0)]
    line: list[tuple[datetime, int]] = []
    for at, n in known:
        if not line or (at > line[-1][0] and n >= line[-1][1]):
            line.append((at, n))
    return [*line, (max(now, line[-1][0] + timedelta(milliseconds=1)), ended)]


def _explain(status: BatchStatus, left: int, elapsed: timedelta, ended: int, now: datetime) -> str:
    """Say why no number would be true; the first reason that holds."""
    still = now - status.moved_at if status.moved_at else timedelta()
    if still > max(STILL_AFTER, STILL_GAPS * (elapsed - still) / ended):
        return f"no movement for {describe_duration(still)}"
    if left == status.failing:
        return "1 member waits for its retry" if left == 1 else f"{left:,} members wait for their retry"
    if left <= TAIL or left < TAIL_SHARE * status.total:
        return "the last one" if left == 1 else f"the last {left:,}"
    return ""


def _estimate(line: Curve, elapsed: timedelta, left: int, per_second: float | None) -> Pace:
    step = elapsed / WINDOWS
    ends = [_ended_at(line, line[0][0] + n * step) for n in range(WINDOWS + 1)]
    paces = [(after - before) / step.total_seconds() for before, after in pairwise(ends)]
    last, usual = paces[-1], median(paces)
    if not last or not usual or not per_second:
        return Pace(left=left, per_second=per_second)
    return Pace(
        left=left,
        per_second=per_second,
        seconds=left / per_second,
        seconds_low=min(LEAST * left / max(last, usual), left / per_second),
        seconds_high=max(MOST * left / min(last, usual), left / per_second),
    )


def _shown(line: Curve, elapsed: timedelta) -> float | None:
    window = min(max(elapsed / WINDOWS, SHOWN_AT_LEAST), SHOWN_AT_MOST, elapsed)
    moved = line[-1][1] - _ended_at(line, line[-1][0] - window)
    return moved / window.total_seconds() or None


def _ended_at(line: Curve, at: datetime) -> float:
    """How many had ended then: between two known points they are taken to end evenly."""
    k = bisect_right(line, at, key=lambda point: point[0])
    if k == 0 or k == len(line):
        return float(line[min(k, len(line) - 1)][1])
    (before, low), (after, high) = line[k - 1], line[k]
    return low + (high - low) * ((at - before) / (after - before))


def _round(seconds: float) -> tuple[int, str]:
    """Round to one unit; under a minute to ten seconds."""
    length, unit = next((u for u in _UNITS if seconds >= 1.5 * u[0]), _UNITS[-1])
    return (max(10, round(seconds / 10) * 10), unit) if unit == "s" else (round(seconds / length), unit)


def _describe_rate(per_second: float) -> str:
    length, unit, _ = next(rate for rate in _RATES if per_second * rate[0] >= rate[2])
    n = per_second * length
    return f"{n:,.0f}/{unit}" if n >= 10 else f"{n:.1f}/{unit}".replace(".0/", "/")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)

"""How long a worker may try to report an outcome. Pure: no I/O."""

from __future__ import annotations

from typing import Any

Limits = tuple[float | None, float | None]

NO_LIMITS: Limits = (None, None)


def limits_of(task: Any, request: Any, worker: Limits) -> Limits:
    """The hard and the soft limit of the running task: its message's, else its own, else the worker's."""
    of_message = getattr(request, "timelimit", None) or NO_LIMITS
    hard = of_message[0] or task.time_limit or worker[0]
    soft = of_message[1] or task.soft_time_limit or worker[1]
    return hard, soft


def patience_within(limits: Limits, elapsed_seconds: float, *, at_most: float) -> float:
    """How many seconds reporting may take: never more than half of what the next limit leaves."""
    if limits == NO_LIMITS:
        return at_most
    hard = limits[0]
    if hard and hard <= elapsed_seconds:
        return 0.0
    ahead = [limit - elapsed_seconds for limit in limits if limit and limit > elapsed_seconds]
    return min([at_most, *(left / 2 for left in ahead)])

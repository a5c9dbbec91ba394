"""When a delivery that failed or waits for its address is tried again: eight attempts in 27 hours."""

from __future__ import annotations

from celery_batches_notify.store.packing import ATTEMPTS_AT_MOST

MINUTE, HOUR = 60, 60 * 60
DELAYS_SECONDS = (5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR)
JITTER = 0.1
FALLBACK_SECONDS = 30


def delay_after(attempt: int, drawn: float) -> float | None:
    """Return how many seconds to wait after an attempt failed, or None if it was the last.

    Args:
        attempt: The attempt that failed, from 1.
        drawn: A random number from 0 to 1, so that not all deliveries come back at once.
    """
    if attempt >= ATTEMPTS_AT_MOST:
        return None
    return DELAYS_SECONDS[attempt - 1] * (1 + JITTER * drawn)


def fallback_after(pause: float, drawn: float) -> float:
    """Return after how many seconds a sweeper publishes a delivery that its address has not released.

    Args:
        pause: How many seconds its address rests.
        drawn: A random number from 0 to 1.
    """
    return pause + max(FALLBACK_SECONDS, pause) * (1 + JITTER * drawn)

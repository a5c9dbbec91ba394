"""When a delivery that failed is tried again: eight attempts, over a good day."""

from __future__ import annotations

MINUTE, HOUR = 60, 60 * 60
DELAYS_SECONDS = (5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR)
ATTEMPTS_AT_MOST = len(DELAYS_SECONDS) + 1
JITTER = 0.1


def delay_after(attempt: int, drawn: float) -> float | None:
    """Return how many seconds to wait after an attempt failed, or None if it was the last.

    Args:
        attempt: Which one failed, from 1.
        drawn: A random number from 0 to 1, so that not all come back at once.
    """
    if attempt >= ATTEMPTS_AT_MOST:
        return None
    return DELAYS_SECONDS[attempt - 1] * (1 + JITTER * drawn)

"""The circuit breaker of one process: not every report waits for a store that is away. Pure: no I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

AWAY_SECONDS = 5.0


class CircuitBreaker:
    """Remembers for some seconds that the store was away; then one report tries whether it is back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._try_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the store was away when it was last tried."""
        return self._try_at is not None

    def ask(self) -> Literal["insist", "try once", "do not try"]:
        """Return how to send a report; only one caller in some seconds gets "try once"."""
        try_at = self._try_at  # read once: another thread may close the breaker meanwhile
        if try_at is None:
            return "insist"
        if self._clock() < try_at:
            return "do not try"
        self.open()
        return "try once"

    def open(self) -> None:
        """Note that the store did not answer."""
        self._try_at = self._clock() + AWAY_SECONDS

    def close(self) -> None:
        """Note that the store answered."""
        self._try_at = None

"""What one process knows of a store that is away, so that not every outcome waits for it. Pure: no I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

AWAY_SECONDS = 5.0


class CircuitBreaker:
    """A note that the store was away, good for some seconds; then one outcome tries whether it is back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._try_at: float | None = None

    @property
    def noted(self) -> bool:
        """Whether the store is believed to be away."""
        return self._try_at is not None

    def ask(self) -> Literal["insist", "try once", "do not try"]:
        """Say how whoever has an outcome is to go about it; one `try once` is said per while."""
        try_at = self._try_at  # once: another thread may learn meanwhile that the store is back
        if try_at is None:
            return "insist"
        if self._clock() < try_at:
            return "do not try"
        self.begin()
        return "try once"

    def begin(self) -> None:
        """Note that the store did not answer."""
        self._try_at = self._clock() + AWAY_SECONDS

    def end(self) -> None:
        """Note that it answered."""
        self._try_at = None

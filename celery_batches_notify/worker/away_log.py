"""Log lines while the store is away: one a minute, however many threads use the store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from celery_batches_notify.errors import StoreUnavailable

AGAIN_SECONDS = 60.0

logger = logging.getLogger(__name__)


class AwayLog:
    """Logs a warning when the store goes away, then at most one a minute, and a line when it is back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None
        self._again_at = clock()

    def failed(self, exc: StoreUnavailable) -> None:
        """Log that the store could not be used, unless that was logged less than a minute ago."""
        with self._lock:
            now = self._clock()
            if now < self._again_at:  # safety: away-minute
                return
            self._again_at = now + AGAIN_SECONDS
            self._since = now if self._since is None else self._since
        logger.warning("batches: %s. Until it can be used, outcomes wait on this host's disk", exc)

    def answered(self) -> None:
        """Log that the store is back, if a warning said that it was away."""
        if self._since is None:
            return
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            logger.info("batches: the store can be used again, after %.0f s", self._clock() - since)

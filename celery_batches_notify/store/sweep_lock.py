"""The lock that lets one sweeper work at a time."""

from __future__ import annotations

from uuid import uuid4

from celery_batches_notify.store.scripts import Scripts


class SweepLock:
    """Held by one process, for a while; it must be held again before the while ends."""

    def __init__(self, scripts: Scripts, key: str, seconds: float) -> None:
        self._scripts = scripts
        self._key = key
        self._milliseconds = round(seconds * 1000)
        self._holder = f"{uuid4().hex}:{self._milliseconds}"

    def hold(self) -> bool:
        """Take the lock, or keep it; return whether it is ours."""
        answer = self._scripts.hold_lock([self._key], ["", self._holder, self._milliseconds])
        return bool(answer[0] == "held")

    def release(self) -> None:
        """Let the next one have it."""
        self._scripts.release_lock([self._key], ["", self._holder])

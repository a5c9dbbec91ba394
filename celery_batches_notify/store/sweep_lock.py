"""The lock that lets one sweeper work at a time."""

from __future__ import annotations

import contextlib

from redis import Redis
from redis.exceptions import LockError
from redis.lock import Lock


class SweepLock:
    """Held by one process, for a while; it must be held again before the while ends."""

    def __init__(self, client: Redis, key: str, seconds: float) -> None:
        self._lock = Lock(client, key, timeout=seconds, blocking=False, thread_local=False)

    def hold(self) -> bool:
        """Take the lock, or keep it; return whether it is ours."""
        with contextlib.suppress(LockError):
            return bool(self._lock.reacquire())
        return bool(self._lock.acquire())

    def release(self) -> None:
        """Let the next one have it."""
        with contextlib.suppress(LockError):
            self._lock.release()

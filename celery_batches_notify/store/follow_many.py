"""Following several batches in one thread, over any absence of the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from celery_batches_notify.errors import StoreUnavailable
from celery_batches_notify.store.followers import Answer, ThreadFollower
from celery_batches_notify.store.store import Store

AGAIN_SECONDS = 1.0


class FollowMany:
    """The latest readings of several batches, for one thread, within a `with` block.

    Args:
        store: Their store.
        bids: The batches.
        clock: Seconds that only grow.
    """

    def __init__(
        self, store: Store, bids: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._moved = threading.Event()
        self._followers = {bid: ThreadFollower(bid, self._moved) for bid in bids}
        self._seen: dict[str, Answer] = {}
        self._again_at: float | None = None

    def __enter__(self) -> Self:
        for follower in self._followers.values():
            self._store.listener.add(follower)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for follower in self._followers.values():
            self._store.listener.remove(follower)

    def wait(self, seconds: float) -> dict[str, Answer]:
        """Wait for news, at most so many seconds; return what is new, by bid.

        A batch that could not be read because the store was away is read again after a while, and so on.
        Nothing follows any other error.
        """
        if self._again_at is not None:
            seconds = max(0.0, min(seconds, self._again_at - self._clock()))
        self._moved.wait(seconds)
        self._moved.clear()
        news = {
            bid: follower.latest
            for bid, follower in self._followers.items()
            if follower.latest is not None and follower.latest is not self._seen.get(bid)
        }
        self._seen |= news
        self._read_again()  # safety: follow-again
        return news

    def _read_again(self) -> None:
        """Follow the batches anew whose last answer was that the store is away."""
        away = [bid for bid, answer in self._seen.items() if isinstance(answer, StoreUnavailable)]
        if not away:
            self._again_at = None
        elif self._again_at is None:
            self._again_at = self._clock() + AGAIN_SECONDS
        elif self._clock() >= self._again_at:
            self._again_at = None
            for bid in away:
                del self._seen[bid]
                self._followers[bid] = follower = ThreadFollower(bid, self._moved)
                self._store.listener.add(follower)

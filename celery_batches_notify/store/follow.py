"""Following a batch: subscribe, then read, wake on tokens, and read again every few seconds in any case."""

from __future__ import annotations

import time
from typing import Generic, Self, TypeVar

from celery_batches_notify.errors import NoSuchBatch
from celery_batches_notify.model import Event, Progress
from celery_batches_notify.store.followers import Answer, LoopFollower, ThreadFollower, raise_for_one
from celery_batches_notify.store.listener import Listener
from celery_batches_notify.store.parsing import Reading
from celery_batches_notify.store.store import Store

F = TypeVar("F", ThreadFollower, LoopFollower)


class Follow:
    """The readings of one batch as it moves, with `for` or `async for`.

    It ends after the reading that shows the batch finished, and when the batch is deleted or expires.
    Tokens only wake it, and many tokens at once give one reading, so it is never far behind. It raises
    `StoreUnavailable` if the store is away at the start, or later for longer than `AWAY_SECONDS`.
    """

    def __init__(self, store: Store, bid: str) -> None:
        self._store = store
        self._bid = bid

    def __iter__(self) -> Readings:
        return Readings(self._store, self._bid)

    def __aiter__(self) -> AsyncReadings:
        return AsyncReadings(self._store, self._bid)


class _Readings(Generic[F]):
    """An iterator over readings, synchronous or not.

    This is not a generator, because an abandoned asynchronous generator is closed by its event loop, and a
    loop that has ended does not close it.
    """

    def __init__(self, store: Store, bid: str) -> None:
        self._store = store
        self._bid = bid
        self._listener: Listener | None = None
        self._follower: F | None = None
        self._last: Progress | None = None
        self._over = False

    def _close(self) -> None:
        self._over = True
        if self._listener is not None and self._follower is not None:
            self._listener.remove(self._follower)
        self._follower = None

    def _follow(self, kind: type[F]) -> F:
        """Return the follower: a new one at first, after a fork, and once its event loop ended."""
        listener, follower = self._store.listener, self._follower
        if follower is None or follower.is_over or self._listener is not listener:
            self._follower = follower = kind(self._bid)
            self._listener = listener
            listener.add(follower)
        return follower

    def _take(self, answer: Answer | None) -> Progress | None:
        """Return the progress if it has changed; close at the end."""
        if isinstance(answer, Reading):
            last, self._last = self._last, answer.progress
            if answer.progress.finished:
                self._close()
            return answer.progress if answer.progress != last else None
        self._close()
        if answer is not None and not isinstance(answer, NoSuchBatch):
            raise_for_one(answer)
        return None

    def __del__(self) -> None:
        self._close()  # safety: dropped-follower


class Readings(_Readings[ThreadFollower]):
    """The readings of one batch, each as soon as it is read; `close()` ends them early."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Progress:
        while not self._over:
            if (progress := self._take(self._follow(ThreadFollower).wait())) is not None:
                return progress
        raise StopIteration

    def close(self) -> None:
        """Stop following."""
        self._close()


class AsyncReadings(_Readings[LoopFollower]):
    """The readings of one batch, each as soon as it is read; `aclose()` ends them early."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Progress:
        while not self._over:
            if (progress := self._take(await self._follow(LoopFollower).wait())) is not None:
                return progress
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop following."""
        self._close()


def wait_for_event(store: Store, bid: str, event: Event, seconds: float | None) -> bool:
    """Wait until an event of the batch has fired; return whether it did within so many seconds.

    Raises:
        NoSuchBatch: The batch is gone.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    follower = ThreadFollower(bid)
    with store.listener.serving(follower):
        answer = follower.wait()  # the first reading or an error comes soon, and a timeout of 0 needs it too
        while answer is not None:
            if not isinstance(answer, Reading):
                raise_for_one(answer)
            if event in answer.fired:
                return True
            answer = follower.wait(None if deadline is None else deadline - time.monotonic())
    return False

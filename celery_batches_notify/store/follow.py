"""Following a batch: subscribe, then read, wake on tokens, and read again every few seconds in any case."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from celery_batches_notify.model import Event, Progress
from celery_batches_notify.store.connection import store_errors
from celery_batches_notify.store.store import Store

REREAD_SECONDS = 5.0
QUIET_SECONDS = 0.05
_END = object()


class Follow:
    """The readings of one batch as it moves, with `for` or `async for`.

    It ends after the reading that shows the batch finished, and when the batch is deleted or expires.
    Tokens only wake it, and many tokens at once give one reading, so it is never far behind.
    """

    def __init__(self, store: Store, bid: str) -> None:
        self._store = store
        self._bid = bid

    def __iter__(self) -> Iterator[Progress]:
        return (progress for progress in self._readings() if progress is not None)

    async def __aiter__(self) -> AsyncIterator[Progress]:
        readings = self._readings()
        while (progress := await asyncio.to_thread(next, readings, _END)) is not _END:
            if isinstance(progress, Progress):
                yield progress

    def _readings(self) -> Iterator[Progress | None]:
        """Read whenever something moves; None where nothing did, so that nobody waits in vain for long."""
        with self._store.subscribe(self._bid) as stream:
            last = None
            while (progress := self._store.read_progress(self._bid)) is not None:
                yield progress if progress != last else None
                if progress.finished:
                    return
                last = progress
                with store_errors(self._store.settings):
                    stream.wait(REREAD_SECONDS)
                time.sleep(QUIET_SECONDS)


def wait_for_event(store: Store, bid: str, event: Event, seconds: float | None) -> bool:
    """Wait until an event of the batch has fired; return whether it did within so many seconds.

    Raises:
        NoSuchBatch: The batch is gone.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    with store.subscribe(bid) as stream:
        while not store.has_fired(bid, event):
            left = REREAD_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            with store_errors(store.settings):
                stream.wait(min(left, REREAD_SECONDS))
    return True

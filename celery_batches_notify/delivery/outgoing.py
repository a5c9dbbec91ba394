"""Publishing in the background, so that a report does not wait for the broker."""

from __future__ import annotations

import logging
import os
import queue
import threading
from contextvars import Context

from celery_batches_notify.delivery.publisher import Publisher
from celery_batches_notify.errors import StoreUnavailable
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.messages.traces import context_of_report
from celery_batches_notify.store.recorded import Recorded

WAITING_AT_MOST = 1000
_Item = tuple[Context, str, Recorded]

logger = logging.getLogger(__name__)


class Outgoing:
    """A thread that publishes due callbacks. If it dies with its process, the sweeper publishes them."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """Start empty: a fork's child does not have the thread, and publishes only what it submits itself."""
        self._lock = threading.Lock()
        self._done = threading.Condition(self._lock)  # gevent's queue cannot be waited for
        self._left = 0
        self._running = False
        self._waiting: queue.Queue[_Item | None] = queue.Queue()

    def submit(self, bid: str, recorded: Recorded) -> None:
        """Publish these deliveries soon; return at once. If too many wait, they are left to the sweeper.

        They are published in the trace of the caller.
        """
        with self._lock:
            if self._waiting.qsize() >= WAITING_AT_MOST:
                BatchLog(logger, bid=bid).info("its callbacks are left to the sweeper")
                return
            self._left += 1
            if not self._running:
                self._running = True
                threading.Thread(
                    target=self._run, args=(self._waiting,), name="batches-outgoing", daemon=True
                ).start()
            self._waiting.put((context_of_report(), bid, recorded))  # never blocks: the queue is unbounded

    def flush(self, seconds: float) -> bool:
        """Wait until all is published, at most this many seconds; return whether it was."""
        with self._done:
            return self._done.wait_for(lambda: not self._left, seconds)

    def close(self) -> None:
        """End the thread once it has published what waits; the next `submit` starts another."""
        with self._lock:
            if self._running:
                self._waiting.put(None)
            self._running, self._waiting = False, queue.Queue()

    def _run(self, waiting: queue.Queue[_Item | None]) -> None:
        while (item := waiting.get()) is not None:
            context, bid, recorded = item
            log = BatchLog(logger, bid=bid)
            try:
                context.run(self._publisher.publish, bid, recorded)  # safety: outgoing-context
            except StoreUnavailable as exc:
                log.warning("its callbacks are not published yet: %s", exc)
            except Exception:
                log.exception("its callbacks are not published yet")
            finally:
                with self._done:
                    self._left -= 1
                    self._done.notify_all()

"""Threads of the worker's main process that do something at intervals."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from celery_batches_notify.errors import BatchesError, StoreUnavailable
from celery_batches_notify.worker.away_log import AwayLog

logger = logging.getLogger(__name__)


class PeriodicThread:
    """A daemon thread that calls a function at once and every so many seconds, whatever that raises.

    Args:
        name: The thread's name, also in the log.
        seconds: The pause between two calls.
        do: The function.
        away: Logs that the store is away. All threads that share it use the store in each call.
    """

    def __init__(
        self, name: str, seconds: float, do: Callable[[], object], away: AwayLog | None = None
    ) -> None:
        self._name = name
        self._seconds = seconds
        self._do = do
        self._away = away or AwayLog()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stopping(self) -> bool:
        """Whether a call that takes long should return."""
        return self._stop.is_set()

    def start(self) -> None:
        """Start the thread."""
        self._stop = threading.Event()  # a new one: the last thread may still have to see that it must stop
        name = f"batches-{self._name}"
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for the call under way at most as long as one pause. Harmless if no thread runs."""
        self._stop.set()
        if self._thread not in (None, threading.current_thread()):
            self._thread.join(timeout=self._seconds)

    def _run(self, stop: threading.Event) -> None:
        while True:
            try:
                self._do()
                self._away.answered()
            except StoreUnavailable as exc:
                self._away.failed(exc)
            except BatchesError as exc:
                logger.warning("batches: the %s thread failed and tries again: %s", self._name, exc)
            except Exception:
                logger.exception("batches: the %s thread failed and tries again", self._name)
            if stop.wait(self._seconds):
                return

"""Doing something at intervals, in a thread of the worker's main process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from celery_batches_notify.errors import BatchesError, StoreUnavailable
from celery_batches_notify.worker.away_log import AwayLog

logger = logging.getLogger(__name__)


class PeriodicThread:
    """A daemon thread that does something at once and every so many seconds, whatever that raises.

    Args:
        name: Who does it, for the log and the thread's name.
        seconds: How long it rests in between.
        do: What it does.
        away: Where it says that the store is away. Whoever shares it asks the store each time.
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
        """Whether what takes long should break off."""
        return self._stop.is_set()

    def start(self) -> None:
        """Begin."""
        self._stop = threading.Event()  # of its own: a thread that has not ended yet keeps its order to
        name = f"batches-{self._name}"
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for what is under way as long as one interval; harmless where nothing runs."""
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

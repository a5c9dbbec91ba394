"""Replaying: what the spool of this host holds is told to the store again, once that is back."""

from __future__ import annotations

import logging
import time

from celery_batches_notify.errors import CorruptBatch, SchemaTooNew, StoreUnavailable
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.worker.periodic import PeriodicThread
from celery_batches_notify.worker.reporter import Reporter
from celery_batches_notify.worker.spool import Spool, Taken
from celery_batches_notify.worker.spool_records import UnreadableLine, parse_line

LOOK_SECONDS = 2.0
KEPT_SECONDS = 300.0

logger = logging.getLogger(__name__)


class Replay:
    """A thread in each worker's main process. Several side by side take what the others leave.

    What is told twice changes nothing, so a worker that dies with half a file told leaves the whole of it.
    """

    def __init__(self, spool: Spool, reporter: Reporter) -> None:
        self._spool = spool
        self._reporter = reporter
        self._kept_at = 0.0
        self._every = PeriodicThread("spool", LOOK_SECONDS, self.replay)

    def start(self) -> None:
        """Begin with what there is, that is what a worker of before left too, and go on in the background."""
        try:
            self._spool.check()
        except OSError as exc:
            logger.error("batches: outcomes are lost while the store is away: %s", exc)
        self._kept_at = 0.0
        self._every.start()

    def stop(self) -> None:
        """End; what is left stays on the disk."""
        self._every.stop()

    def replay(self) -> None:
        """Tell the store what the spool holds, as far as it takes it."""
        kept = time.monotonic() >= self._kept_at
        if kept:
            self._kept_at = time.monotonic() + KEPT_SECONDS
        for taken in self._spool.take(kept=kept):
            if not self._tell_all(taken):
                return

    def _tell_all(self, taken: Taken) -> bool:
        """Tell each line of a file; return whether that was possible for all of them."""
        told, too_new, whole = 0, [], False
        for line in taken.lines():
            try:
                told += self._tell(line)
            except SchemaTooNew:
                too_new.append(line)
            except StoreUnavailable:
                break
            if self._every.stopping:
                break
        else:
            whole = True
        self._spool.keep(too_new)
        if whole:
            taken.done()
        else:
            taken.leave()
        if told:
            logger.info("batches: %d outcomes from the spool are reported", told)
        return whole

    def _tell(self, line: bytes) -> bool:
        """Tell one line, or leave it out for good where that can never succeed; return which."""
        try:
            said = parse_line(line)
        except UnreadableLine as exc:
            logger.error("batches: a line of the spool is left out: %s", exc)
            return False
        log = BatchLog(logger, bid=said.bid, **said.fields)
        try:
            self._reporter.replay(said)
        except CorruptBatch as exc:
            log.critical("%s is not counted: %s", said.name, exc)
        except (SchemaTooNew, StoreUnavailable):
            raise
        except Exception:
            log.exception("%s is not counted", said.name)
        else:
            return True
        return False

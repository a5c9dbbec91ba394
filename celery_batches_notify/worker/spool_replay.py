"""Replay: the spool's reports are sent to the store again, once it is back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from celery_batches_notify.errors import CorruptBatch, SchemaTooNew, StoreUnavailable
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.membership import Membership
from celery_batches_notify.store.packing import APART, is_plain
from celery_batches_notify.worker.periodic import PeriodicThread
from celery_batches_notify.worker.reporter import Reporter
from celery_batches_notify.worker.spool import Spool, Taken
from celery_batches_notify.worker.spool_records import Report, UnreadableLine, parse_line

LOOK_SECONDS = 2.0
TOGETHER = 200  # lines that are read ahead
PLAIN_AT_MOST = 4096  # bytes of a plain success, unless somebody gave it a very long id
KEPT_SECONDS = 300.0

logger = logging.getLogger(__name__)


class Replay:
    """A thread in each worker's main process. Several workers of a host share the spool's files.

    Reports are idempotent, so a worker that dies halfway leaves the whole file to be replayed.

    Args:
        spool: The spool of this host.
        reporter: Sends each report.
        clock: The monotonic clock.
    """

    def __init__(
        self, spool: Spool, reporter: Reporter, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._spool = spool
        self._reporter = reporter
        self._clock = clock
        self._kept_at = 0.0
        self._unusable = ""
        self._every = PeriodicThread("spool", LOOK_SECONDS, self.check_and_replay)

    def start(self) -> None:
        """Begin with what an earlier worker left, and go on in the background."""
        self._kept_at, self._unusable = 0.0, ""
        self._every.start()

    def stop(self) -> None:
        """Stop; unsent reports stay on the disk."""
        self._every.stop()

    def check_and_replay(self) -> None:
        """Replay; if the spool cannot be used, log why, once per reason."""
        try:
            self._spool.check()
        except OSError as exc:
            if str(exc) != self._unusable:  # safety: unusable-said-once
                self._unusable = str(exc)
                logger.error("batches: outcomes are lost while the store is away: %s", exc)
            return
        self._unusable = ""
        self.replay()

    def replay(self) -> None:
        """Send what the spool holds, until the store does not answer."""
        now = self._clock()
        kept = now >= self._kept_at
        if kept:
            self._kept_at = now + KEPT_SECONDS
        for taken in self._spool.take(kept=kept):
            if not self._send_all(taken):
                return

    def _send_all(self, taken: Taken) -> bool:
        """Send each line of a file; return whether all were handled."""
        counted, too_new, whole = 0, [], False
        shared, ahead = set[bytes](), 0
        for line in taken.lines():
            if ahead == 0:
                lines = [line, *taken.peek(TOGETHER - 1)]
                shared, ahead = self._send_together(lines), len(lines)
            ahead -= 1
            try:
                counted += line in shared or self._send(line)
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
        if counted:
            logger.info("batches: %d outcomes from the spool are reported", counted)
        return whole

    def _send_together(self, lines: Sequence[bytes]) -> set[bytes]:
        """Send the plain successes among some lines in one call for each batch; return the lines that count.

        Every other line is sent by itself later, and then what is wrong with it is logged.
        """
        batches: dict[str, list[tuple[bytes, Membership]]] = {}
        for line in lines:
            if len(line) > PLAIN_AT_MOST:
                continue
            with suppress(UnreadableLine):
                message = parse_line(line)
                if isinstance(message, Report) and is_plain(message.outcome):
                    batches.setdefault(message.bid, []).append((line, message.member))
        shared = set[bytes]()
        for bid, pairs in batches.items():
            try:
                words = self._reporter.replay_successes(bid, [member for _, member in pairs])
            except StoreUnavailable:
                break
            except Exception:  # noqa: BLE001, S112 - a damaged batch does not keep the others
                continue  # safety: replay-each-batch
            answered = zip(pairs, words, strict=True)
            shared |= {line for (line, _), word in answered if word != APART}  # safety: replay-apart
        return shared

    def _send(self, line: bytes) -> bool:
        """Send one line, and return whether it counts; leave it out for good if it never can."""
        try:
            message = parse_line(line)
        except UnreadableLine as exc:
            logger.error("batches: a line of the spool is left out: %s", exc)
            return False
        log = BatchLog(logger, bid=message.bid, **message.fields)
        try:
            self._reporter.replay(message)
        except CorruptBatch as exc:
            log.critical("%s is not counted: %s", message.name, exc)
        except (SchemaTooNew, StoreUnavailable):
            raise
        except Exception:
            log.critical("%s is not counted", message.name, exc_info=True)
        else:
            return True
        return False

"""Statuses in the store: of one batch, or of all in the order of the list."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from redis.client import Pipeline

from celery_batches_notify.errors import CorruptBatch, NoSuchBatch, SchemaTooNew
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.store import parsing
from celery_batches_notify.store.at_once import Clock, read_at_once, read_each_at_once, read_together
from celery_batches_notify.store.base import StoreBase, check_schema
from celery_batches_notify.store.client import store_errors
from celery_batches_notify.store.errors import corrupt_errors, type_errors
from celery_batches_notify.store.paging import Place

STATUSES_AT_ONCE = 20  # each may bring a hundred failures with it

logger = logging.getLogger(__name__)


class StatusStore(StoreBase):
    """What is shown of batches."""

    def read_snapshot(self, bid: str) -> parsing.Snapshot:
        """Read all that a status needs, at one moment.

        Raises:
            NoSuchBatch: It is gone.
        """
        with store_errors(self.settings), type_errors(bid):
            clock, answers = read_at_once(self.client, lambda pipe: self._queue_snapshot(pipe, bid))
        return _parse_snapshot(bid, clock, answers)

    def _queue_snapshot(self, pipe: Pipeline, bid: str) -> None:
        key, part = self.keys.batch(bid), self.keys.part
        pipe.pttl(key)
        for name in (key, part(bid, "outbox"), part(bid, "failures")):
            pipe.hgetall(name)
        pipe.hlen(part(bid, "children"))
        pipe.get(part(bid, "callbacks"))

    def read_status(self, bid: str) -> BatchStatus:
        """Read a batch's status. Raises `NoSuchBatch`."""
        snapshot = self.read_snapshot(bid)
        with corrupt_errors(bid):
            return parsing.parse_status(snapshot, self.settings.stall_after)

    def list_batches(self, after: Place | None = None) -> Iterator[tuple[Place, BatchStatus]]:
        """Read the statuses of all batches, newest first, each with its place in the list.

        Args:
            after: The place to go on behind, from an earlier reading; None begins with the newest batch.
        """
        with store_errors(self.settings):
            for page in self.lists.walk_newest(after):
                for start in range(0, len(page), STATUSES_AT_ONCE):
                    yield from self._read_statuses(page[start : start + STATUSES_AT_ONCE])

    def list_outlines(self, *, states: bool) -> Iterator[parsing.Outline]:
        """Read what finds a batch in a list, newest first: one command each, and no failures.

        Args:
            states: Read their states as well; then a batch whose counts cannot be read is left out.
        """
        fields = parsing.OUTLINE_FIELDS + (parsing.READING_FIELDS if states else ())
        with store_errors(self.settings):
            for page in self.lists.walk_index():
                yield from self._read_outlines([bid for bid, _ in page], fields)

    def _read_outlines(self, bids: Sequence[str], fields: Sequence[str]) -> Iterator[parsing.Outline]:
        def queue(pipe: Pipeline) -> None:
            for bid in bids:
                pipe.hmget(self.keys.batch(bid), fields)

        clock, answers = read_together(self.client, queue)
        now = parsing.parse_time(clock)
        for bid, answer in zip(bids, answers, strict=True):
            try:
                with corrupt_errors(bid):
                    if isinstance(answer, Exception):
                        raise answer
                    check_schema(bid, answer[0])
                    yield parsing.parse_outline(bid, answer, now, self.settings.stall_after)
            except NoSuchBatch:
                continue
            except (CorruptBatch, SchemaTooNew) as exc:
                BatchLog(logger, bid=bid).warning("left out of the list: %s", exc)

    def _read_statuses(self, listed: Sequence[tuple[str, Place]]) -> Iterator[tuple[Place, BatchStatus]]:
        """Read several statuses; a batch that cannot be read is logged and left out."""
        places = dict(listed)
        for bid, clock, answers in read_each_at_once(self.client, list(places), self._queue_snapshot):
            try:
                with corrupt_errors(bid):
                    snapshot = _parse_snapshot(bid, clock, answers)
                    status = parsing.parse_status(snapshot, self.settings.stall_after)
            except NoSuchBatch:
                continue
            except (CorruptBatch, SchemaTooNew) as exc:
                BatchLog(logger, bid=bid).warning("left out of the list: %s", exc)
                continue
            yield places[bid], status


def _parse_snapshot(bid: str, clock: Clock, answers: Sequence[Any]) -> parsing.Snapshot:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    ttl, batch, outbox, failures, children, callbacks = answers
    check_schema(bid, batch.get(b"schema"))
    return parsing.Snapshot(
        bid=bid,
        batch=batch,
        outbox=outbox,
        failures=failures,
        children=children,
        callbacks=callbacks or b"[]",
        now=parsing.parse_time(clock),
        ttl=timedelta(milliseconds=max(ttl, 0)),
    )

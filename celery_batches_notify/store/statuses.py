"""Statuses in the store: of one batch, or of all in the order of the list."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from redis.client import Pipeline

from celery_batches_notify.errors import CorruptBatch, NoSuchBatch, SchemaTooNew
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.store import parsing
from celery_batches_notify.store.base import StoreBase, check_schema, check_values
from celery_batches_notify.store.errors import corrupt_errors, store_errors, type_errors
from celery_batches_notify.store.paging import Place
from celery_batches_notify.store.snapshots import Clock, read_snapshot, read_snapshots, read_together

STATUSES_AT_ONCE = 20  # each may bring a hundred failures
ROWS_AT_ONCE = 250
ROW_FIELDS = (
    *parsing.READING_FIELDS,
    *("description", "tags", "created_at", "parent_bid"),
    *("cut_short", "abandoned_at", "given_up", "keep_open"),
)

logger = logging.getLogger(__name__)


class StatusStore(StoreBase):
    """The store's methods for reading statuses."""

    def read_snapshot(self, bid: str) -> parsing.Snapshot:
        """Read everything that a status needs, at one moment.

        Raises:
            NoSuchBatch: It is gone.
        """
        with store_errors(self.settings), type_errors(bid):
            clock, answers = read_snapshot(self.client, lambda pipe: self._queue_snapshot(pipe, bid))
        return _parse_snapshot(bid, clock, answers)

    def _queue_snapshot(self, pipe: Pipeline, bid: str) -> None:
        key, part = self.keys.batch(bid), self.keys.part
        pipe.pttl(key)
        for name in (key, part(bid, "outbox"), part(bid, "failures"), part(bid, "curve")):
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
            after: The place to continue behind, from an earlier reading; None begins with the newest batch.
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
        now, answers = self._read_fields(bids, fields)
        for bid, answer in zip(bids, answers, strict=True):
            try:
                with corrupt_errors(bid):
                    values = check_values(bid, answer)
                    yield parsing.parse_outline(bid, values, now, self.settings.stall_after)
            except NoSuchBatch:
                continue
            except (CorruptBatch, SchemaTooNew) as exc:
                BatchLog(logger, bid=bid).warning("left out of the list: %s", exc)

    def _read_statuses(self, listed: Sequence[tuple[str, Place]]) -> Iterator[tuple[Place, BatchStatus]]:
        """Read several statuses; a batch that cannot be read is logged and left out."""
        places = dict(listed)
        for bid, clock, answers in read_snapshots(self.client, list(places), self._queue_snapshot):
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

    def _read_fields(self, bids: Sequence[str], fields: Sequence[str]) -> tuple[datetime, list[Any]]:
        """Read these fields of batches in one round trip to each server; return the time and the answers."""

        def queue(pipe: Pipeline) -> None:
            for bid in bids:
                pipe.hmget(self.keys.batch(bid), fields)

        with store_errors(self.settings):
            clock, answers = read_together(self.client, queue)
        return parsing.parse_time(clock), answers

    def count_batches(self) -> int:
        """Return how many entries the list of batches has; some may be of batches that have expired."""
        with store_errors(self.settings):
            return int(self.client.zcard(self.keys.index))

    def walk_rows(self, after: Place | None = None) -> Iterator[list[tuple[Place, Row]]]:
        """Read what a list shows of each batch, newest first, in pages: no failures, no callbacks.

        Args:
            after: The place to go on behind, from an earlier reading; None begins with the newest batch.
        """
        with store_errors(self.settings):
            for page in self.lists.walk_index(after, ROWS_AT_ONCE):
                places = dict(page)
                rows = self.read_rows(list(places))
                yield [(place, rows[bid]) for bid, place in places.items() if bid in rows]

    def read_rows(self, bids: Sequence[str]) -> dict[str, Row]:
        """Read what a list shows of these batches, in one round trip to each server, but for gone ones."""
        if not bids:
            return {}
        now, answers = self._read_fields(bids, ROW_FIELDS)
        rows = {}
        for bid, answer in zip(bids, answers, strict=True):
            try:
                rows[bid] = self._parse_row(bid, answer, now)
            except NoSuchBatch:
                continue
            except (CorruptBatch, SchemaTooNew) as exc:
                rows[bid] = Row(bid=bid, now=now, why=str(exc))
        return rows

    def _parse_row(self, bid: str, answer: Any, now: datetime) -> Row:
        with corrupt_errors(bid):
            batch = parsing.name_values(ROW_FIELDS, check_values(bid, answer))
            snapshot = parsing.Snapshot(
                bid=bid, batch=batch, outbox={}, failures={}, children=0, now=now, ttl=timedelta()
            )
            status = parsing.parse_status(snapshot, self.settings.stall_after)
            return Row(bid=bid, now=now, status=status, given_up=int(batch.get(b"given_up", b"0")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a list shows of one batch.

    Attributes:
        bid: The batch.
        now: The store's time when it was read.
        status: Its status without callbacks, failures, children and expiry; None if it cannot be read.
        given_up: How many of its callbacks were given up.
        why: Why it cannot be read, or an empty text.
    """

    bid: str
    now: datetime
    status: BatchStatus | None = None
    given_up: int = 0
    why: str = ""


def _parse_snapshot(bid: str, clock: Clock, answers: Sequence[Any]) -> parsing.Snapshot:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    ttl, batch, outbox, failures, curve, children, callbacks = answers
    check_schema(bid, batch.get(b"schema"))
    return parsing.Snapshot(
        bid=bid,
        batch=batch,
        outbox=outbox,
        failures=failures,
        children=children,
        callbacks=callbacks or batch.get(b"callbacks", b"[]"),  # safety: old-callbacks
        curve=curve,
        now=parsing.parse_time(clock),
        ttl=timedelta(milliseconds=max(ttl, 0)),
    )

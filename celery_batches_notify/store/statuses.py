"""Statuses in the store: of one batch, or of all in the order of the list."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from redis.client import Pipeline
from redis.exceptions import ResponseError

from celery_batches_notify.errors import CorruptBatch, NoSuchBatch, SchemaTooNew
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.store import parsing
from celery_batches_notify.store.base import StoreBase, check_schema, check_values
from celery_batches_notify.store.client import is_cluster
from celery_batches_notify.store.errors import corrupt_errors, store_errors, type_errors
from celery_batches_notify.store.outbox import from_ms
from celery_batches_notify.store.outlines import (
    STANDING_FIELDS,
    TEXT_FIELDS,
    Outline,
    Standing,
    parse_outline,
    parse_standing,
)
from celery_batches_notify.store.paging import Position
from celery_batches_notify.store.snapshots import Clock, read_snapshot, read_snapshots, read_together

STATUSES_AT_ONCE = 20  # each may bring a hundred failures
ROWS_AT_ONCE = 250
MANY = 20  # from here on a script reads batches faster than commands do
ROW_FIELDS = (
    *parsing.READING_FIELDS,
    *("description", "tags", "created_at", "parent_bid"),
    *("cut_short", "abandoned_at", "given_up", "keep_open"),
)

T = TypeVar("T")

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
        pipe.strlen(part(bid, "states"))
        pipe.strlen(part(bid, "members"))
        pipe.hlen(part(bid, "late"))

    def read_status(self, bid: str) -> BatchStatus:
        """Read a batch's status. Raises `NoSuchBatch`."""
        snapshot = self.read_snapshot(bid)
        with corrupt_errors(bid):
            return parsing.parse_status(snapshot, self.settings.stall_after)

    def read_statuses(self, bids: Sequence[str]) -> Iterator[BatchStatus]:
        """Read the statuses of these batches; gone ones, and ones that cannot be read, are left out."""
        for start in range(0, len(bids), STATUSES_AT_ONCE):
            yield from self._read_statuses(bids[start : start + STATUSES_AT_ONCE])

    def walk_positions(
        self, after: Position | None = None, size: int = ROWS_AT_ONCE
    ) -> Iterator[list[tuple[str, Position]]]:
        """Read the list of batches, newest first, in pages; some of them may have expired.

        Args:
            after: The position to go on behind, from an earlier reading; None begins with the newest batch.
            size: How many a page has.
        """
        with store_errors(self.settings):
            yield from self.lists.walk_index(after, size)

    def read_newest(self, count: int) -> list[str]:
        """Read the bids of the newest batches; some of them may have expired."""
        with store_errors(self.settings):
            return self.lists.read_newest(count)

    def list_outlines(self, *, standings: bool) -> Iterator[Outline]:
        """Read what finds a batch in a list, newest first: one command each, and no failures.

        Args:
            standings: Read how they stand as well; then a batch whose counts cannot be read is left out.
        """
        for page in self.walk_positions():
            for outline in self.read_outlines([bid for bid, _ in page], standings=standings):
                if outline.why:
                    BatchLog(logger, bid=outline.bid).warning("left out of the list: %s", outline.why)
                else:
                    yield outline

    def read_outlines(
        self, bids: Sequence[str], *, texts: bool = True, standings: bool = False
    ) -> list[Outline]:
        """Read what finds these batches in a list, in one round trip to each server, but for gone ones.

        Args:
            bids: The batches.
            texts: Read their descriptions and tags.
            standings: Read how they stand.
        """
        if not bids:
            return []
        fields: tuple[str, ...] = ("schema",)
        fields += (TEXT_FIELDS if texts else ()) + (STANDING_FIELDS if standings else ())
        now, answers = self._read_fields(bids, fields)

        def parse(bid: str, answer: Any) -> Outline:
            return parse_outline(bid, fields, check_values(bid, answer), now, self.settings.stall_after)

        return [found or Outline(bid=bid, why=why) for bid, found, why in parse_each(bids, answers, parse)]

    def read_standings(self, bids: Sequence[str]) -> dict[str, Standing | None]:
        """Read how these batches stand, in one round trip to each server, but for gone ones.

        None stands for one that cannot be read.
        """
        if not bids:
            return {}
        fields = ("schema", *STANDING_FIELDS)
        now, answers = self._read_fields(bids, fields)

        def parse(bid: str, answer: Any) -> Standing:
            batch = parsing.name_values(fields, check_values(bid, answer))
            return parse_standing(batch, now, self.settings.stall_after)

        return {bid: found for bid, found, _ in parse_each(bids, answers, parse)}

    def _read_statuses(self, bids: Sequence[str]) -> Iterator[BatchStatus]:
        with store_errors(self.settings):
            for bid, clock, answers in read_snapshots(self.client, bids, self._queue_snapshot):
                try:
                    with corrupt_errors(bid):
                        snapshot = _parse_snapshot(bid, clock, answers)
                        status = parsing.parse_status(snapshot, self.settings.stall_after)
                except NoSuchBatch:
                    continue
                except (CorruptBatch, SchemaTooNew) as exc:
                    BatchLog(logger, bid=bid).warning("left out of the list: %s", exc)
                    continue
                yield status

    def _read_fields(self, bids: Sequence[str], fields: Sequence[str]) -> tuple[datetime, list[Any]]:
        """Read these fields of batches in one round trip to each server; return the time and the answers.

        The answer for a batch that cannot be read is its error.
        """
        if len(bids) >= MANY and not is_cluster(self.client):  # whose scripts keep to one slot
            return self._read_fields_of_many(bids, fields)
        names = parsing.encode_names(tuple(fields))  # redis-py would encode them for each batch

        def queue(pipe: Pipeline) -> None:
            for bid in bids:
                pipe.hmget(self.keys.batch(bid), names)

        with store_errors(self.settings):
            clock, answers = read_together(self.client, queue)
        return parsing.parse_time(clock), answers

    def _read_fields_of_many(self, bids: Sequence[str], fields: Sequence[str]) -> tuple[datetime, list[Any]]:
        with store_errors(self.settings):
            answer = self.scripts.read_fields([*map(self.keys.batch, bids)], ["", *fields])
        _, now, (text,) = answer
        return from_ms(now), [*map(_values_of, json.loads(text.decode("latin-1")))]

    def count_listed(self) -> int:
        """Return how many entries the list of batches has; some may be of batches that have expired."""
        with store_errors(self.settings):
            return int(self.client.zcard(self.keys.index))

    def read_rows(self, bids: Sequence[str]) -> dict[str, Row]:
        """Read what a list shows of these batches, in one round trip to each server, but for gone ones."""
        if not bids:
            return {}
        now, answers = self._read_fields(bids, ROW_FIELDS)
        rows = {}
        for bid, found, why in parse_each(bids, answers, partial(self._parse_row, now=now)):
            status, given_up = found or (None, 0)
            rows[bid] = Row(bid=bid, now=now, status=status, given_up=given_up, why=why)
        return rows

    def read_briefly(self, bid: str) -> tuple[BatchStatus, datetime]:
        """Read a status without callbacks, failures, children and expiry; return it and the store's time.

        Raises:
            NoSuchBatch: It is gone.
        """
        now, answers = self._read_fields([bid], ROW_FIELDS)
        return self._parse_row(bid, answers[0], now)[0], now

    def _parse_row(self, bid: str, answer: Any, now: datetime) -> tuple[BatchStatus, int]:
        """Parse the values of `ROW_FIELDS`; return the status, and how many callbacks were given up."""
        with corrupt_errors(bid):
            batch = parsing.name_values(ROW_FIELDS, check_values(bid, answer))
            snapshot = parsing.Snapshot(
                bid=bid, batch=batch, outbox={}, failures={}, children=0, now=now, ttl=timedelta()
            )
            status = parsing.parse_status(snapshot, self.settings.stall_after)
            return status, int(batch.get(b"given_up", b"0"))


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


def parse_each(
    bids: Sequence[str], answers: Sequence[Any], parse: Callable[[str, Any], T]
) -> Iterator[tuple[str, T | None, str]]:
    """Yield each batch with what its answer holds, or with None and why it cannot be read.

    Batches that are gone are left out. Raises an error that is not about a batch's data.
    """
    for bid, answer in zip(bids, answers, strict=True):
        try:
            found, why = parse(bid, answer), ""
        except NoSuchBatch:
            continue
        except Exception as exc:  # noqa: BLE001 - `_say_unreadable` raises those that are not about data
            found, why = None, _say_unreadable(bid, exc)
        yield bid, found, why


def _say_unreadable(bid: str, exc: Exception) -> str:
    """Say why a batch cannot be read; raise an error that is not about its data."""
    try:
        with corrupt_errors(bid):
            raise exc
    except (CorruptBatch, SchemaTooNew) as unreadable:
        return str(unreadable)


def _values_of(read: list[str | bool] | str) -> list[bytes | None] | ResponseError:
    """Return what HMGET would have answered."""
    if isinstance(read, str):
        return ResponseError(read)
    return [value.encode("latin-1") if isinstance(value, str) else None for value in read]


def _parse_snapshot(bid: str, clock: Clock, answers: Sequence[Any]) -> parsing.Snapshot:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    ttl, batch, outbox, failures, curve, children, callbacks, states, ids, late = answers
    check_schema(bid, batch.get(b"schema"))
    return parsing.Snapshot(
        bid=bid,
        batch=batch,
        outbox=outbox,
        failures=failures,
        children=children,
        callbacks=callbacks or batch.get(b"callbacks", b"[]"),  # safety: old-callbacks
        curve=curve,
        sizes=(states, ids, late),
        now=parsing.parse_time(clock),
        ttl=timedelta(milliseconds=max(ttl, 0)),
    )

"""The counters that all processes share: written as batches move, and read for metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from celery_batches_notify.errors import BatchesError
from celery_batches_notify.store import parsing
from celery_batches_notify.store.base import check_values
from celery_batches_notify.store.errors import corrupt_errors, is_away, store_errors
from celery_batches_notify.store.lists import longest_life_of
from celery_batches_notify.store.outbox import from_ms
from celery_batches_notify.store.statuses import StatusStore, parse_each
from celery_batches_notify.store.totals import COUNTED_FIELDS, Numbers, deliveries_of, numbers_of

LIVE_AT_ONCE = 250
# A process may stop for a while between reading a batch and counting it. What was counted is remembered for
# longer than that, so that such a late reading does not count a second time.
READING_MS = 30 * 60 * 1000
LIVE_FIELDS = (
    *("schema", "total", "succeeded", "dead", "sealed_at", "cancelled_at", "success_at", "complete_at"),
    *("reported_at", "created_at", "open"),
)


class LiveCounts(NamedTuple):
    """One batch on the sweeper's list, as metrics see it: `open_deliveries` is how many are on their way."""

    state: str
    ended: bool
    pending: int
    open_deliveries: int
    quiet: timedelta
    age: timedelta


class CountingStore(StatusStore):
    """The store's methods for counters and metrics."""

    def count_batch(self, bid: str) -> None:
        """Add to the counters what a batch has come to. One that is gone or cannot be read is left out.

        Raises:
            StoreUnavailable: The store is away.
        """
        try:
            self.count_batches([self._read_numbers(bid)])
        except BatchesError as exc:
            if is_away(exc):
                raise

    def count_batches(self, batches: Sequence[Numbers], *, swept: bool = False) -> None:
        """Add to the counters what these batches have come to; what is counted already changes nothing.

        `swept` says that a sweep ends with them.
        """
        args: list[str | int] = ["", longest_life_of(self.settings), READING_MS, int(swept)]
        for each in batches:
            line = " ".join(f"{name}={n}" for name, n in each.numbers.items())
            args += [each.bid, each.read_at, line]
        with store_errors(self.settings):
            self.scripts.count_batches([self.keys.totals, self.keys.counted], args)

    def read_totals(self) -> dict[str, int]:
        """Read the counters, by the names that `numbers_of` and `deliveries_of` give them."""
        with store_errors(self.settings):
            stored: Any = self.client.hgetall(self.keys.totals)
        return {name.decode(): int(n) for name, n in stored.items()}

    def drop_totals(self) -> None:
        """Remove the counters."""
        with store_errors(self.settings):
            self.client.unlink(self.keys.totals, self.keys.counted)

    def walk_live_counts(self, limit: int) -> Iterator[LiveCounts]:
        """Read the counts of the batches on the sweeper's list, at most `limit`, the oldest first."""
        with store_errors(self.settings):
            listed: Any = self.client.zrange(self.keys.live, 0, limit - 1)
        bids = [bid.decode("utf-8", "replace") for bid in listed]
        for start in range(0, len(bids), LIVE_AT_ONCE):
            page = bids[start : start + LIVE_AT_ONCE]
            now, answers = self._read_fields(page, LIVE_FIELDS)
            parse = partial(_parse_counts, now=now, stall_after=self.settings.stall_after)
            yield from (live for _, live, _ in parse_each(page, answers, parse) if live is not None)

    def count_live(self) -> int:
        """Return how many batches are on the sweeper's list."""
        with store_errors(self.settings):
            return int(self.client.zcard(self.keys.live))

    def _read_numbers(self, bid: str) -> Numbers:
        snapshot = self.read_snapshot(bid)
        with corrupt_errors(bid):
            fields = {name: int(snapshot.batch.get(name.encode(), b"0")) for name in COUNTED_FIELDS}
            numbers = numbers_of(fields) | deliveries_of(snapshot)
        return Numbers(bid=bid, read_at=round(snapshot.now.timestamp() * 1000), numbers=numbers)


def _parse_counts(bid: str, answer: Any, *, now: datetime, stall_after: timedelta) -> LiveCounts:
    batch = parsing.name_values(LIVE_FIELDS, check_values(bid, answer))
    total, succeeded, dead = int(batch[b"total"]), int(batch[b"succeeded"]), int(batch[b"dead"])
    return LiveCounts(
        state=parsing.parse_state(batch, now, stall_after),
        ended=parsing.has_ended(b"sealed_at" in batch, total, succeeded, dead),
        pending=total - succeeded,
        open_deliveries=int(batch.get(b"open", b"0")),
        quiet=now - from_ms(int(batch[b"reported_at"])),
        age=now - from_ms(int(batch[b"created_at"])),
    )

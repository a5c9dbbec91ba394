"""The lists of batches: all batches by age, those that the sweeper looks after, and cancelled ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.client import Pipeline

from celery_batches_notify.checks import check_bid
from celery_batches_notify.errors import CorruptBatch, InvalidBid
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.settings import LONGEST, Settings
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.keys import Keys
from celery_batches_notify.store.packing import SENDING_MS
from celery_batches_notify.store.paging import Position, walk_pages
from celery_batches_notify.store.parsing import has_ended
from celery_batches_notify.store.scripts import Scripts
from celery_batches_notify.store.snapshots import read_together
from celery_batches_notify.store.totals import COUNTED_FIELDS, Numbers, numbers_of

PAGE = 100
INDEX_PAGE = 500
UNSTORED_SECONDS = 60  # how long an entry may precede its batch, which is listed before it is stored
TERMINATE = b":terminate"
GONE = -2  # PTTL's answer for a key that does not exist
LIVES = ("expires", "linger", "dead_expires")
_SWEPT = (
    *("total", "succeeded", "dead", "sealed_at", "open", "next_due"),
    *("reported_at", "watch_at", "resend_at", "parent_bid", "abandon_at", *LIVES),
    *("given_up", *(name for name in COUNTED_FIELDS if name != "succeeded")),
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBatch:
    """The sweeper's view of one batch on its list.

    `deliveries` says how many are open and how many given up.
    """

    bid: str
    score: float
    ended: bool
    has_due: bool
    gone: bool = False
    watch_due: bool = False
    resend_due: bool = False
    quiet_seconds: float = 0
    abandon_at: int = 0
    abandon_due: bool = False
    parent_bid: str | None = None
    life_ms: int = 0
    deliveries: tuple[int, int] = (0, 0)
    numbers: Numbers | None = None


class BatchIndexes:
    """The sorted sets of batches; they lie in other slots than the batches themselves."""

    def __init__(self, client: Redis, scripts: Scripts, keys: Keys, settings: Settings) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._life_ms = longest_life_of(settings)

    def add_batch(self, bid: str, life_ms: int = 0) -> None:
        """Put a new batch on both lists; `life_ms` is how long it may be kept."""
        self._put(bid, self._keys.index, self._keys.live, life_ms=life_ms)

    def restore(self, bid: str, created_at_ms: int, *, live: bool) -> int:
        """Put a batch back on the lists that lost it, the sweeper's only if it lives; return how many."""
        wanted = (self._keys.index, self._keys.live) if live else (self._keys.index,)
        lost = [key for key in wanted if self._client.zscore(key, bid) is None]
        self._put(bid, *lost)
        if self._keys.index in lost:
            self._client.zadd(self._keys.index, {bid: created_at_ms}, xx=True)
        return len(lost)

    def add_live(self, bid: str) -> None:
        """Put a batch (back) on the sweeper's list."""
        self._put(bid, self._keys.live)

    def add_cancelled(self, bid: str, *, terminate: bool) -> None:
        """Put a batch on the list that workers read, and whether they end its running members too."""
        self._put(bid + TERMINATE.decode() if terminate else bid, self._keys.cancelled)

    def read_cancelled(self) -> dict[str, bool]:
        """Read the bids of cancelled batches, and whether workers end their running members."""
        entries: Any = self._client.zrange(self._keys.cancelled, 0, -1)
        ended = {entry.removesuffix(TERMINATE): entry.endswith(TERMINATE) for entry in sorted(entries)}
        return {bid.decode("utf-8", "replace"): terminate for bid, terminate in ended.items()}

    def remove_batch(self, bid: str) -> None:
        """Take a batch off all lists."""
        self._client.zrem(self._keys.index, bid)
        self._client.zrem(self._keys.live, bid)
        self._client.zrem(self._keys.cancelled, bid, bid + TERMINATE.decode())

    def walk_index(
        self, after: Position | None = None, size: int = INDEX_PAGE
    ) -> Iterator[list[tuple[str, Position]]]:
        """Yield the list of all batches, newest first, in pages of this size. Some may have expired."""
        for page in walk_pages(self._client, self._keys.index, size, after=after, newest_first=True):
            if listed := well_formed(page):
                yield listed

    def read_newest(self, count: int) -> list[str]:
        """Read the bids of the newest batches on the list of all. Some may have expired."""
        entries: Any = self._client.zrange(
            self._keys.index, "+inf", "-inf", desc=True, byscore=True, offset=0, num=count
        )
        return [bid for entry in entries if (bid := read_bid(entry)) is not None]

    def walk_newest(self, after: Position | None = None) -> Iterator[list[tuple[str, Position]]]:
        """Yield the stored batches, newest first, in pages; begin behind `after` if it is given."""
        for listed in self.walk_index(after):
            exist = self.exist([bid for bid, _ in listed])
            yield [each for each, exists in zip(listed, exist, strict=True) if exists]

    def walk_live(self) -> Iterator[LiveBatch]:
        """Yield the sweeper's view of each live batch, a page per two round trips.

        A batch that is put on the list meanwhile is left for the next walk, because a batch that is retired
        and revived over and over would keep this walk from ending.
        """
        newest: Any = self._client.zrange(self._keys.live, -1, -1, withscores=True)
        last = [Position(float(score), entry) for entry, score in newest]
        for page in walk_pages(self._client, self._keys.live, PAGE):
            yield from self._read_live([position for position in page if [position] <= last])
            if page[-1:] >= last:
                return

    def exist(self, bids: Sequence[str]) -> list[bool]:
        """Whether each of these batches is stored, in one round trip to each server."""
        with self._client.pipeline(transaction=False) as pipe:
            for bid in bids:
                pipe.exists(self._keys.batch(bid))
            return [bool(found) for found in pipe.execute()]

    def drop(self, key: str, positions: Sequence[Position], *, older_seconds: float = 0) -> int:
        """Take entries off a list unless they were put there again since they were read; return how many.

        Args:
            key: The list.
            positions: The entries as they were read.
            older_seconds: Spare entries that were put there within so many seconds.
        """
        if not positions:
            return 0
        parts = [part for position in positions for part in (position.entry, position.score)]
        return int(self._scripts.drop_entries([key], ["", round(older_seconds * 1000), *parts])[1])

    def drop_live(self, batch: LiveBatch) -> None:
        """Take a batch that is over, or gone, off the sweeper's list."""
        position = Position(batch.score, batch.bid.encode())
        self.drop(self._keys.live, [position], older_seconds=UNSTORED_SECONDS if batch.gone else 0)

    def drop_gone(self, bid: str) -> None:
        """Take a batch that does not exist off both lists, unless it may be about to be stored."""
        for key in (self._keys.index, self._keys.live):
            score = self._client.zscore(key, bid)
            if score is not None:
                self.drop(key, [Position(score, bid.encode())], older_seconds=UNSTORED_SECONDS)

    def prolong(self, life_ms: int) -> None:
        """Let the lists live for at least so long, because one of their batches may."""
        life_ms = min(life_ms, round(LONGEST.total_seconds() * 1000))  # another program may have written it
        keys = self._keys
        for key in (keys.index, keys.live, keys.cancelled, keys.totals, keys.counted):
            self._scripts.prolong_list([key], ["", life_ms])

    def _read_live(self, page: Sequence[Position]) -> Iterator[LiveBatch]:
        whole = well_formed(page)

        def queue(pipe: Pipeline) -> None:
            for bid, _ in whole:
                pipe.hmget(self._keys.batch(bid), *_SWEPT)
                pipe.pttl(self._keys.batch(bid))

        clock, answers = read_together(self._client, queue)
        now = clock[0] * 1000 + clock[1] // 1000
        for (bid, position), *of_one in zip(whole, answers[::2], answers[1::2], strict=True):
            try:
                with corrupt_errors(bid):
                    found = _parse_live(bid, position.score, of_one, now)
            except CorruptBatch as exc:
                BatchLog(logger, bid=bid).warning("not swept: %s", exc)
                found = LiveBatch(bid=bid, score=position.score, ended=False, has_due=False)
            yield found

    def _put(self, entry: str, *lists: str, life_ms: int = 0) -> None:
        """Put an entry on lists, which live as long as their longest batch: the sweeper prolongs them."""
        for key in lists:
            self._scripts.put_on_list([key], ["", entry, max(life_ms, self._life_ms)])


class SweepLock:
    """A lock that one process holds for some seconds, and must take again before they end."""

    def __init__(self, scripts: Scripts, key: str, seconds: float) -> None:
        self._scripts = scripts
        self._key = key
        self._milliseconds = round(seconds * 1000)
        self._holder = f"{uuid4().hex}:{self._milliseconds}"

    def hold(self) -> bool:
        """Take or keep the lock; return whether it is ours."""
        answer = self._scripts.hold_lock([self._key], ["", self._holder, self._milliseconds])
        return bool(answer[0] == "held")

    def release(self) -> None:
        """Release the lock for the next process."""
        self._scripts.release_lock([self._key], ["", self._holder])


def longest_life_of(settings: Settings) -> int:
    """Return the longest of the three lives in the settings, in milliseconds."""
    return longest_life_ms({name: getattr(settings, name).total_seconds() * 1000 for name in LIVES})


def longest_life_ms(fields: Mapping[str, Any]) -> int:
    """Return the longest of a batch's three lives."""
    return max(round(float(fields[name])) for name in LIVES)


def _parse_live(bid: str, score: float, answers: Sequence[Any], now: int) -> LiveBatch:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    values, ttl = answers
    fields: dict[str, Any] = dict(zip(_SWEPT, values, strict=True))
    if ttl == GONE:
        return LiveBatch(bid=bid, score=score, ended=False, has_due=False, gone=True)
    parent = fields.pop("parent_bid")
    n = {name: int(value or 0) for name, value in fields.items()}
    return LiveBatch(
        bid=bid,
        score=score,
        ended=not n["open"] and has_ended(n["sealed_at"], n["total"], n["succeeded"], n["dead"]),
        watch_due=0 < n["watch_at"] <= now,
        # If it lies farther ahead than it can, the clock was set back.
        # safety: retry-clock-set-back
        resend_due=0 < n["resend_at"] <= now or n["resend_at"] > now + SENDING_MS,
        quiet_seconds=abs(now - n["reported_at"]) / 1000,
        abandon_at=n["abandon_at"],
        abandon_due=0 < n["abandon_at"] <= now,
        parent_bid=check_bid(parent.decode()) if parent else None,
        has_due=0 < n["next_due"] <= now or (n["open"] > 0 and ttl * 2 < n["expires"]),
        life_ms=max(longest_life_ms(n), ttl),
        deliveries=(n["open"], n["given_up"]),
        numbers=Numbers(bid=bid, read_at=now, numbers=numbers_of(n)),
    )


def well_formed(page: Sequence[Position], suffix: bytes = b"") -> list[tuple[str, Position]]:
    """Return the entries of a list with well-formed bids: keys are only built from these."""
    read = ((read_bid(position.entry.removesuffix(suffix)), position) for position in page)
    return [(bid, position) for bid, position in read if bid is not None]


def read_bid(entry: bytes) -> str | None:
    """Return the bid of a list's entry; if it is malformed, log that and return None."""
    try:
        return check_bid(entry.decode("utf-8", "replace"))
    except InvalidBid as exc:
        logger.warning("batches: an entry of their list is left out: %s", exc)
        return None

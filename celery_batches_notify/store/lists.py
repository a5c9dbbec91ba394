"""The two lists of batches: all of them by age, and those that the sweeper must look after."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redis import Redis
from redis.client import Pipeline

from celery_batches_notify.errors import CorruptBatch, InvalidBid
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.model import check_bid
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.at_once import read_at_once, read_together
from celery_batches_notify.store.corrupt import readable
from celery_batches_notify.store.keys import Keys
from celery_batches_notify.store.scripts import Scripts

PAGE = 100

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBatch:
    """What the sweeper needs to know of one batch on its list."""

    bid: str
    score: float
    ended: bool
    has_due: bool
    watch_due: bool = False
    resend_due: bool = False
    abandon_at: int = 0
    abandon_due: bool = False
    parent_bid: str | None = None


class Lists:
    """The sorted sets that name batches; they lie in other slots than the batches themselves."""

    def __init__(self, client: Redis, scripts: Scripts, keys: Keys, settings: Settings) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._settings = settings

    def add_batch(self, bid: str) -> None:
        """Put a new batch on both lists."""
        self._put(bid, self._keys.index, self._keys.live)

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
        """Let the workers know that a batch is cancelled, and whether running members are to be ended too."""
        self._put(f"{bid}:terminate" if terminate else bid, self._keys.cancelled)

    def read_cancelled(self) -> dict[str, bool]:
        """Read the bids of cancelled batches, and whether their running members are to be ended."""
        clock, (bids,) = read_at_once(self._client, lambda pipe: pipe.zrange(self._keys.cancelled, 0, -1))
        forget = (clock[0] - self._longest_life().total_seconds()) * 1000
        self._client.zremrangebyscore(self._keys.cancelled, "-inf", forget)
        words = sorted(bid.decode("utf-8", "replace").partition(":") for bid in bids)
        return {bid: how == "terminate" for bid, _, how in words}

    def remove_batch(self, bid: str) -> None:
        """Take a batch off both lists."""
        self._client.zrem(self._keys.index, bid)
        self._client.zrem(self._keys.live, bid)
        self._client.zrem(self._keys.cancelled, bid, f"{bid}:terminate")

    def walk_newest(self) -> Iterator[str]:
        """Read all bids, newest first, a page per round trip; the caller may remove those it met."""
        last: float | str = "+inf"
        seen: set[bytes] = set()
        while page := self._page(last):
            fresh = [(bid, score) for bid, score in page if bid not in seen]
            last = page[-1][1] if fresh else f"({page[-1][1]!r}"
            seen = {bid for bid, score in page if score == page[-1][1]}
            yield from (bid for bid, _ in well_formed(fresh))

    def walk_live(self) -> Iterator[LiveBatch]:
        """Read what the sweeper must know, a page per two round trips; batches that are gone are dropped."""
        start = 0
        while page := self._live_page(start):
            batches, gone = self._look_at(page)
            start += len(page) - gone
            yield from batches

    def _page(self, last: float | str) -> list[tuple[bytes, float]]:
        page: Any = self._client.zrange(
            self._keys.index, last, "-inf", desc=True, byscore=True, offset=0, num=PAGE, withscores=True
        )
        return [(bid, float(score)) for bid, score in page]

    def drop_live(self, batch: LiveBatch) -> None:
        """Take a batch off the sweeper's list, unless it was put there again since it was read."""
        self._scripts.drop_live([self._keys.live], ["", batch.bid, batch.score])

    def _live_page(self, start: int) -> list[tuple[bytes, float]]:
        page: Any = self._client.zrange(self._keys.live, start, start + PAGE - 1, withscores=True)
        return [(bid, float(score)) for bid, score in page]

    def _look_at(self, page: Sequence[tuple[bytes, float]]) -> tuple[list[LiveBatch], int]:
        """Return those of the page that can be swept, and how many are gone and were dropped."""
        whole = well_formed(page)

        def queue(pipe: Pipeline) -> None:
            for bid, _ in whole:
                key = self._keys.batch(bid)
                pipe.hmget(key, "total", "succeeded", "dead", "sealed_at", "open", "next_due", "expires")
                pipe.hmget(key, "watch_at", "resend_at", "parent_bid", "abandon_at")
                pipe.pttl(key)

        clock, answers = read_together(self._client, queue)
        now = clock[0] * 1000 + clock[1] // 1000
        found, gone = [], 0
        for (bid, score), *of_one in zip(whole, answers[::3], answers[1::3], answers[2::3], strict=True):
            try:
                with readable(bid):
                    live = _parse_live(bid, score, of_one, now)
            except CorruptBatch as exc:
                BatchLog(logger, bid=bid).warning("not swept: %s", exc)
                found.append(LiveBatch(bid=bid, score=score, ended=False, has_due=False))
                continue
            if of_one[0][0] is None:
                self.drop_live(live)
                gone += 1
            else:
                found.append(live)
        return found, gone

    def _longest_life(self) -> timedelta:
        return max(self._settings.expires, self._settings.dead_expires)

    def _put(self, bid: str, *lists: str) -> None:
        """The lists live as long as the longest of their batches: their own life never shrinks."""
        life = round(self._longest_life().total_seconds() * 1000)
        for key in lists:
            self._scripts.put_on_list([key], ["", bid, life])


def _parse_live(bid: str, score: float, answers: Sequence[Any], now: int) -> LiveBatch:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    fields, more, ttl = answers
    total, succeeded, dead, sealed_at, open_, due, expires = (int(f or 0) for f in fields)
    abandon_at = int(more[3] or 0)
    return LiveBatch(
        bid=bid,
        score=score,
        ended=sealed_at > 0 and succeeded + dead == total and not open_,
        watch_due=0 < int(more[0] or 0) <= now,
        resend_due=0 < int(more[1] or 0) <= now,
        abandon_at=abandon_at,
        abandon_due=0 < abandon_at <= now,
        parent_bid=check_bid(more[2].decode()) if more[2] else None,
        has_due=0 < due <= now or (open_ > 0 and ttl * 2 < expires),
    )


def well_formed(page: Sequence[tuple[bytes, float]]) -> list[tuple[str, float]]:
    """Return the entries of a list whose bids are such: with others no key is built."""
    found = []
    for entry, score in page:
        try:
            found.append((check_bid(entry.decode("utf-8", "replace")), score))
        except InvalidBid as exc:
            logger.warning("batches: an entry of their list is left out: %s", exc)
    return found

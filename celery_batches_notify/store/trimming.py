"""Trims the lists, and the notes of what is counted: drops batches that have expired or are over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Any

from redis import Redis

from celery_batches_notify.store.keys import Keys
from celery_batches_notify.store.lists import TERMINATE, UNSTORED_SECONDS, BatchIndexes, well_formed
from celery_batches_notify.store.paging import Position, walk_pages
from celery_batches_notify.store.scripts import Scripts

PAGE = 1000
PAGES_AT_ONCE = 10
# How long workers discard messages of a cancelled batch that is over: a broker may redeliver one.
CANCELLED_SECONDS = 24 * 60 * 60
# Longer than a reading may be old: see `READING_MS`.
REMEMBERED_MS = 60 * 60 * 1000


class Trimmer:
    """Goes through the lists again and again, a part at a time, oldest entries first, in one process."""

    def __init__(self, client: Redis, lists: BatchIndexes, keys: Keys, scripts: Scripts) -> None:
        self._client = client
        self._lists = lists
        self._scripts = scripts
        self._cursor = 0
        self._keys = keys
        self._positions: dict[str, Position] = {}  # the next call continues here

    def trim(self) -> int:
        """Trim the next part of each list; return how many entries were dropped."""
        self._forget_counted()
        return self._trim(self._keys.index, self._drop_gone) + self._trim(
            self._keys.cancelled, self._drop_over
        )

    def _trim(self, key: str, drop: Callable[[Sequence[Position]], int]) -> int:
        """Trim one page, and further ones while most of their entries are dropped."""
        dropped = 0
        rest = walk_pages(self._client, key, PAGE, after=self._positions.get(key))
        for page in islice(chain(rest, walk_pages(self._client, key, PAGE)), PAGES_AT_ONCE):
            here = drop(page)
            dropped += here
            self._positions[key] = page[-1]
            if here < len(page) / 2:
                break
        return dropped

    def _drop_gone(self, page: Sequence[Position]) -> int:
        listed = well_formed(page)
        exist = self._lists.exist([bid for bid, _ in listed])
        gone = [position for (_, position), exists in zip(listed, exist, strict=True) if not exists]
        return self._lists.drop(self._keys.index, gone, older_seconds=UNSTORED_SECONDS)

    def _drop_over(self, page: Sequence[Position]) -> int:
        listed = well_formed(page, suffix=TERMINATE)
        with self._client.pipeline(transaction=False) as pipe:
            for bid, _ in listed:
                pipe.hmget(self._keys.batch(bid), "schema", "retired")
            answers = pipe.execute(raise_on_error=False)
        found = [(position, answer) for (_, position), answer in zip(listed, answers, strict=True)]
        gone = [position for position, answer in found if answer == [None, None]]
        # safety: running-stays
        over = [position for position, answer in found if not isinstance(answer, Exception) and answer[1]]
        return self._lists.drop(
            self._keys.cancelled, gone, older_seconds=UNSTORED_SECONDS
        ) + self._lists.drop(self._keys.cancelled, over, older_seconds=CANCELLED_SECONDS)

    def _forget_counted(self) -> None:
        """Forget what was counted of some batches that do not exist any more."""
        answer: Any = self._client.hscan(self._keys.counted, self._cursor, count=PAGE)
        self._cursor, counted = int(answer[0]), answer[1]
        bids = [bid.decode("utf-8", "replace") for bid in counted]
        gone = [bid for bid, exists in zip(bids, self._lists.exist(bids), strict=True) if not exists]
        if gone:
            self._scripts.forget_batches([self._keys.counted], ["", REMEMBERED_MS, *gone])

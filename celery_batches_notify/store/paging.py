"""Pages through a sorted set without skipping an entry or reading one twice, even if some are removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from redis import Redis


class Position(NamedTuple):
    """The position of an entry on a list. Positions compare as the server sorts entries."""

    score: float
    entry: bytes


def walk_pages(
    client: Redis, key: str, size: int, *, after: Position | None = None, newest_first: bool = False
) -> Iterator[list[Position]]:
    """Yield the pages of a list; the caller may remove or move entries meanwhile.

    It uses only plain reading commands, because users who may not run scripts list batches too.

    Args:
        client: The store's client.
        key: The sorted set.
        size: How many entries one round trip reads; at least 2.
        after: The position to go on behind; None begins at the first entry.
        newest_first: Whether to go from high scores to low ones.
    """
    offset = 0  # the position of `after` among the entries of its score, which many may share
    while True:
        page = _read(client, key, after, offset, size, newest_first=newest_first)
        fresh = [p for p in page if after is None or (p != after and (p < after) == newest_first)]
        if offset and (not page or fresh[:1] == page[:1]):  # safety: page-again
            # Entries were removed, so unread ones may have moved before this page.
            offset = max(0, offset - size)
        elif fresh:
            yield fresh
            last = fresh[-1]
            if after is not None and last.score == after.score:
                offset += len(page) - 1
            else:
                offset = sum(position.score == last.score for position in page) - 1
            after = last
        elif len(page) == size:
            offset += size - 1  # the next read begins with a known entry  # safety: page-overlap
        else:
            return


def _read(
    client: Redis, key: str, after: Position | None, offset: int, size: int, *, newest_first: bool
) -> list[Position]:
    first, last = ("+inf", "-inf") if newest_first else ("-inf", "+inf")
    start = first if after is None else repr(after.score)
    page: Any = client.zrange(
        key, start, last, desc=newest_first, byscore=True, offset=offset, num=size, withscores=True
    )
    return [Position(float(score), entry) for entry, score in page]

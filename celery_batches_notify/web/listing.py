"""The list of batches, filtered and page by page; every reading is bounded."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_batches_notify.engine import Engine
from celery_batches_notify.model import STATES, BatchStatus
from celery_batches_notify.store.paging import Place
from celery_batches_notify.store.statuses import Row
from celery_batches_notify.web.view import row_as_dict

ROWS = 50
LOOKED_AT_MOST = 2000
URGENT_AT_MOST = 10
QUERY_CHARACTERS = 200
COUNTED_SECONDS = 5.0
_CURSOR = re.compile(r"(\d{1,16})\.([A-Za-z0-9_-]{10,64})")


def _is_live(status: BatchStatus) -> bool:
    return status.finish_at is None and status.cancelled_at is None


def needs_hands(row: Row) -> bool:
    """Return whether a person must act: the batch stalled, has dead members, or a callback was given up."""
    status = row.status
    if status is None:
        return True
    if status.cancelled_at is not None:
        return bool(row.given_up)
    return status.state in ("stalled", "dead") or bool(status.dead or row.given_up)


TABS: Mapping[str, tuple[str, Callable[[Row], bool]]] = {
    "": ("All", lambda _: True),
    "hands": ("Need hands", needs_hands),
    "live": ("Running", lambda row: row.status is not None and _is_live(row.status)),
    "failing": (
        "Failing",
        lambda row: row.status is not None and _is_live(row.status) and row.status.failures > row.status.dead,
    ),
    "ended": ("Dead", lambda row: row.status is not None and row.status.state == "dead"),
    "stopped": ("Cancelled", lambda row: row.status is not None and row.status.state == "cancelled"),
    "done": ("Done", lambda row: row.status is not None and row.status.state == "success"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query of the list; every value is within its bounds.

    Attributes:
        text: Words of the description, a bid, a tag, or `tag:` and all of a tag.
        state: A tab's name, or a state of batches.
        after: The place after which the page begins.
    """

    text: str = ""
    state: str = ""
    after: Place | None = None

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Query:
        """Read a query from a URL's parameters, and ignore those that are malformed."""
        state = given.get("state", "")
        return cls(
            text=given.get("q", "")[:QUERY_CHARACTERS].strip(),
            state=state if state in TABS or state in STATES else "",
            after=parse_cursor(given.get("after", "")),
        )

    def fits(self, row: Row) -> bool:
        """Return whether a batch matches the query."""
        wanted = TABS[self.state][1] if self.state in TABS else self._in_state
        return wanted(row) and (not self.text or self._matches(row))

    def _in_state(self, row: Row) -> bool:
        return row.status is not None and row.status.state == self.state

    def _matches(self, row: Row) -> bool:
        text = self.text.casefold()
        if row.status is None:
            return text in row.bid.casefold()
        if text.startswith("tag:"):
            return text[4:].strip() in (tag.casefold() for tag in row.status.tags)
        places = (row.bid, row.status.description, *row.status.tags)
        return any(text in place.casefold() for place in places)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """A page of the list.

    Attributes:
        query: The query that it answers.
        rows: The batches, newest first.
        urgent: Those that need hands, on the first page of all.
        next: The cursor to go on from, or an empty text at the end.
        looked_at: How many batches were looked at.
        total: How many the list has.
        counts: How many batches each tab has, of the newest `counted`.
        counted: How many were counted.
    """

    query: Query
    rows: tuple[Row, ...]
    urgent: tuple[Row, ...]
    next: str
    looked_at: int
    total: int
    counts: Mapping[str, int]
    counted: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "batches": [row_as_dict(row) for row in self.rows],
            "urgent": [row_as_dict(row) for row in self.urgent],
            "next": self.next or None,
            "looked_at": self.looked_at,
            "total": self.total,
            "counts": {name or "all": n for name, n in self.counts.items()},
            "counted": self.counted,
        }


@dataclass(slots=True)
class Census:
    """How many batches each tab has, and which need hands; counted at most every few seconds."""

    clock: Callable[[], float] = time.monotonic
    _at: float = -math.inf
    _counted: tuple[dict[str, int], int, tuple[Row, ...]] = ({}, 0, ())
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, engine: Engine) -> tuple[dict[str, int], int, tuple[Row, ...]]:
        """Return the counts, how many were counted, and the first that need hands."""
        with self._lock:
            if self.clock() >= self._at + COUNTED_SECONDS:
                self._counted = _count(engine)
                self._at = self.clock()
            return self._counted


def read_list(engine: Engine, query: Query, census: Census) -> ListPage:
    """Read a page of the list. Raises `StoreUnavailable`."""
    total = engine.store.count_batches()
    counts, counted, urgent = census.take(engine)
    rows: list[Row] = []
    looked, last, more = 0, query.after, False
    for page in engine.store.walk_rows(query.after):
        for place, row in page:
            if len(rows) == ROWS or looked == LOOKED_AT_MOST:
                more = True
                break
            looked, last = looked + 1, place
            if query.fits(row):
                rows.append(row)
        if more:
            break
    first = not (query.text or query.state or query.after)
    return ListPage(
        query=query,
        rows=tuple(rows),
        urgent=urgent[:URGENT_AT_MOST] if first else (),
        next=format_cursor(last) if more and last else "",
        looked_at=looked,
        total=total,
        counts=counts,
        counted=counted,
    )


def parse_cursor(text: str) -> Place | None:
    """Parse a URL's cursor into a place in the list; return None if it is malformed."""
    match = _CURSOR.fullmatch(text)
    return Place(float(match[1]), match[2].encode()) if match else None


def format_cursor(place: Place) -> str:
    """Return a place in the list as the cursor of a URL."""
    return f"{int(place.score)}.{place.entry.decode()}"


def _count(engine: Engine) -> tuple[dict[str, int], int, tuple[Row, ...]]:
    counts, counted = dict.fromkeys(TABS, 0), 0
    urgent: list[Row] = []
    for page in engine.store.walk_rows():
        for _, row in page:
            counted += 1
            for name, (_, fits) in TABS.items():
                counts[name] += fits(row)
            if len(urgent) < URGENT_AT_MOST and needs_hands(row):
                urgent.append(row)
        if counted >= LOOKED_AT_MOST:
            break
    return counts, counted, tuple(urgent)

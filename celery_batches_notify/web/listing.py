"""The list of batches, filtered and page by page; every reading is bounded."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_batches_notify.engine import Engine
from celery_batches_notify.model import STATES
from celery_batches_notify.store.outlines import Outline
from celery_batches_notify.store.paging import Position
from celery_batches_notify.store.statuses import ROWS_AT_ONCE, Row
from celery_batches_notify.web.census import TABS, Census, Found, is_in
from celery_batches_notify.web.view import row_as_dict

ROWS = 50
LOOKED_AT_MOST = 2000
QUERY_CHARACTERS = 200
_CURSOR = re.compile(r"(\d{1,16})\.([A-Za-z0-9_-]{10,64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query of the list; every value is within its bounds.

    Attributes:
        text: Words of the description, a bid, a tag, or `tag:` and all of a tag.
        state: A tab's name, or a state of batches.
        after: The position after which the page begins.
    """

    text: str = ""
    state: str = ""
    after: Position | None = None

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Query:
        """Read a query from a URL's parameters, and ignore those that are malformed."""
        state = given.get("state", "")
        return cls(
            text=given.get("q", "")[:QUERY_CHARACTERS].strip(),
            state=state if state in TABS or state in STATES else "",
            after=parse_cursor(given.get("after", "")),
        )

    def select(self, engine: Engine, bids: Sequence[str], census: Census, known: Found) -> Collection[str]:
        """Return those of these batches that match the query. Raises `StoreUnavailable`."""
        if self.text or not self.state:
            outlines = engine.store.read_outlines(bids, texts=bool(self.text))
            bids = [each.bid for each in outlines if not self.text or self._matches(each)]
        if self.state:
            fits = TABS[self.state][1] if self.state in TABS else is_in(self.state)
            bids = census.select(engine, bids, fits, known)
        return frozenset(bids)

    def _matches(self, outline: Outline) -> bool:
        text = self.text.casefold()
        if text.startswith("tag:"):
            return text[4:].strip() in (tag.casefold() for tag in outline.tags)
        return any(text in each.casefold() for each in (outline.bid, outline.description, *outline.tags))


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


def read_list(engine: Engine, query: Query, census: Census) -> ListPage:
    """Read a page of the list. Raises `StoreUnavailable`."""
    total, (counts, known) = engine.store.count_listed(), census.take(engine)
    found: list[str] = []
    looked, last, more = 0, query.after, False
    is_filtered = bool(query.text or query.state)
    for page in engine.store.walk_positions(query.after, ROWS_AT_ONCE if is_filtered else ROWS + 1):
        if more := len(found) == ROWS or looked == LOOKED_AT_MOST:
            break
        part = page[: LOOKED_AT_MOST - looked]  # safety: scan-bounded
        fitting = query.select(engine, [bid for bid, _ in part], census, known)
        for bid, position in part:
            if more := len(found) == ROWS:
                break
            looked, last = looked + 1, position
            if bid in fitting:
                found.append(bid)
        if more := more or len(part) < len(page):
            break
    urgent = () if is_filtered or query.after else counts.urgent
    rows = engine.store.read_rows([*urgent, *found])
    return ListPage(
        query=query,
        rows=tuple(rows[bid] for bid in found if bid in rows),
        urgent=tuple(rows[bid] for bid in urgent if bid in rows),
        next=format_cursor(last) if more and last else "",
        looked_at=looked,
        total=total,
        counts=counts.tabs,
        counted=counts.counted,
    )


def parse_cursor(text: str) -> Position | None:
    """Parse a URL's cursor into a position in the list; return None if it is malformed."""
    match = _CURSOR.fullmatch(text)
    return Position(float(match[1]), match[2].encode()) if match else None


def format_cursor(position: Position) -> str:
    """Return a position in the list as the cursor of a URL."""
    return f"{int(position.score)}.{position.entry.decode()}"

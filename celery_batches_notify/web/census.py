"""How batches stand, for the list's tabs; those that are settled are read once in a while only."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from celery_batches_notify.engine import Engine
from celery_batches_notify.store.outlines import Standing
from celery_batches_notify.store.statuses import ROWS_AT_ONCE

COUNTED_AT_MOST = 2000
COUNTED_SECONDS = 5.0
URGENT_AT_MOST = 10
SETTLED_AT_MOST = 20_000
SETTLED_SECONDS = 300.0  # a batch may expire, and a callback that is sent again may be given up
SETTLED = Standing(
    state="success", is_live=False, failing=0, dead=0, given_up=0, has_ended=True, is_settled=True
)

Found = Mapping[str, Standing | None]  # how batches stand, by their ids; None if one cannot be read
Fits = Callable[[Standing | None], bool]


def is_in(state: str) -> Fits:
    """Return a function that says whether a batch can be read and stands in this state."""
    return lambda of: of is not None and of.state == state


def needs_hands(of: Standing | None) -> bool:
    """Return whether a person must act: the batch stalled, has dead members, or a callback was given up."""
    if of is None:
        return True
    if of.state == "cancelled":
        return bool(of.given_up)
    return of.state in ("stalled", "dead") or bool(of.dead or of.given_up)


TABS: Mapping[str, tuple[str, Fits]] = {
    "": ("All", lambda _: True),
    "hands": ("Need hands", needs_hands),
    "live": ("Running", lambda of: of is not None and of.is_live),
    "failing": ("Failing", lambda of: of is not None and of.is_live and of.failing > 0),
    "ended": ("Dead", is_in("dead")),
    "stopped": ("Cancelled", is_in("cancelled")),
    "done": ("Done", is_in("success")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many batches each tab has, of the newest `counted`, and the first that need hands."""

    tabs: Mapping[str, int]
    counted: int
    urgent: tuple[str, ...]


@dataclass(slots=True)
class Census:
    """Reads how batches stand, and counts them at most every few seconds.

    A batch that has succeeded and whose callbacks were delivered is settled: its standing is kept for some
    minutes, because most batches of a long list are settled, and each would be read every few seconds.

    Args:
        clock: A monotonic clock, in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _at: float = -math.inf
    _counts: Counts = Counts(tabs={}, counted=0, urgent=())
    _settled: dict[str, float] = field(default_factory=dict)  # when each was read
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, engine: Engine) -> tuple[Counts, Found]:
        """Return the counts, and what was read to count them now, if it was. Raises `StoreUnavailable`."""
        with self._lock:
            if self.clock() < self._at + COUNTED_SECONDS:
                return self._counts, {}
            self._counts, read = self._count(engine)
            self._at = self.clock()
            return self._counts, read

    def select(self, engine: Engine, bids: Sequence[str], fits: Fits, known: Found) -> list[str]:
        """Return those of these batches that stand so, but for gone ones. Raises `StoreUnavailable`.

        Args:
            engine: The app's.
            bids: The batches.
            fits: Whether a batch stands so.
            known: Batches that were read just now.
        """
        settled = self._find_settled(bids)
        read = self._read(engine, [bid for bid in bids if bid not in settled and bid not in known])
        found = {bid: known[bid] for bid in bids if bid in known} | read | dict.fromkeys(settled, SETTLED)
        return [bid for bid in bids if bid in found and fits(found[bid])]

    def _find_settled(self, bids: Sequence[str]) -> frozenset[str]:
        since = self.clock() - SETTLED_SECONDS
        return frozenset(bid for bid in bids if self._settled.get(bid, -math.inf) > since)

    def _read(self, engine: Engine, bids: Sequence[str]) -> dict[str, Standing | None]:
        """Read how batches stand, and keep which of them are settled."""
        read: dict[str, Standing | None] = {}
        for start in range(0, len(bids), ROWS_AT_ONCE):
            read |= engine.store.read_standings(bids[start : start + ROWS_AT_ONCE])
        if len(self._settled) > SETTLED_AT_MOST:
            self._settled.clear()
        settled = [bid for bid, standing in read.items() if standing and standing.is_settled]
        self._settled |= dict.fromkeys(settled, self.clock())
        return read

    def _count(self, engine: Engine) -> tuple[Counts, Found]:
        bids = engine.store.read_newest(COUNTED_AT_MOST)
        settled = self._find_settled(bids)
        found = self._read(engine, [bid for bid in bids if bid not in settled])
        tabs = {name: sum(map(fits, found.values())) for name, (_, fits) in TABS.items()}
        tabs[""] += len(settled)
        tabs["done"] += len(settled)
        urgent = (bid for bid, standing in found.items() if needs_hands(standing))
        counts = Counts(tabs=tabs, counted=len(bids), urgent=tuple(islice(urgent, URGENT_AT_MOST)))
        return counts, found

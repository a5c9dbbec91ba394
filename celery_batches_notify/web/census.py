"""How batches stand, for the list's tabs; those that are settled are read once in a while only."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from celery_batches_notify.engine import Engine
from celery_batches_notify.store.outlines import Outline, Standing

COUNTED_AT_MOST = 2000
COUNTED_SECONDS = 5.0
URGENT_AT_MOST = 10
SETTLED_AT_MOST = 20_000
SETTLED_SECONDS = 300.0  # a batch may expire, and a callback that is sent again may be given up
SETTLED = Standing(state="success", is_live=False, failing=0, dead=0, given_up=0, is_settled=True)


def needs_hands(outline: Outline) -> bool:
    """Return whether a person must act: the batch stalled, has dead members, or a callback was given up."""
    of = outline.standing
    if of is None:
        return True
    if of.state == "cancelled":
        return bool(of.given_up)
    return of.state in ("stalled", "dead") or bool(of.dead or of.given_up)


TABS: Mapping[str, tuple[str, Callable[[Outline], bool]]] = {
    "": ("All", lambda _: True),
    "hands": ("Need hands", needs_hands),
    "live": ("Running", lambda of: of.standing is not None and of.standing.is_live),
    "failing": (
        "Failing",
        lambda of: of.standing is not None and of.standing.is_live and of.standing.failing > 0,
    ),
    "ended": ("Dead", lambda of: _is_in(of, "dead")),
    "stopped": ("Cancelled", lambda of: _is_in(of, "cancelled")),
    "done": ("Done", lambda of: _is_in(of, "success")),
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

    def take(self, engine: Engine) -> Counts:
        """Return the counts. Raises `StoreUnavailable`."""
        with self._lock:
            if self.clock() >= self._at + COUNTED_SECONDS:
                self._counts = self._count(engine)
                self._at = self.clock()
            return self._counts

    def read(self, engine: Engine, bids: Sequence[str]) -> list[Outline]:
        """Return how these batches stand, but for gone ones. Raises `StoreUnavailable`."""
        now = self.clock()
        fresh = {bid for bid in bids if self._settled.get(bid, -math.inf) + SETTLED_SECONDS > now}
        unknown = [bid for bid in bids if bid not in fresh]
        read = {each.bid: each for each in engine.store.read_outlines(unknown, texts=False, standings=True)}
        if len(self._settled) > SETTLED_AT_MOST:
            self._settled.clear()
        settled = [each for each in read.values() if each.standing and each.standing.is_settled]
        self._settled |= {each.bid: now for each in settled}
        return [
            Outline(bid=bid, standing=SETTLED) if bid in fresh else read[bid]
            for bid in bids
            if bid in fresh or bid in read
        ]

    def _count(self, engine: Engine) -> Counts:
        tabs, counted = dict.fromkeys(TABS, 0), 0
        urgent: list[str] = []
        for page in engine.store.walk_places():
            for outline in self.read(engine, [bid for bid, _ in page[: COUNTED_AT_MOST - counted]]):
                for name, (_, fits) in TABS.items():
                    tabs[name] += fits(outline)
                if needs_hands(outline) and len(urgent) < URGENT_AT_MOST:
                    urgent.append(outline.bid)
            counted = min(counted + len(page), COUNTED_AT_MOST)
            if counted == COUNTED_AT_MOST:
                break
        return Counts(tabs=tabs, counted=counted, urgent=tuple(urgent))


def _is_in(outline: Outline, state: str) -> bool:
    return outline.standing is not None and outline.standing.state == state

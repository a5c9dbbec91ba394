"""How batches stand, for the list's tabs; those that are settled are read once in a while only."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from celery_batches_notify.engine import Engine
from celery_batches_notify.store.outlines import Outline, Standing

COUNTED_AT_MOST = 2000
COUNTED_SECONDS = 5.0
URGENT_AT_MOST = 10
SETTLED_AT_MOST = 20_000
SETTLED_SECONDS = 300.0  # a batch may expire, and a callback that is sent again may be given up
SETTLED = Standing(
    state="success", is_live=False, failing=0, dead=0, given_up=0, has_ended=True, is_settled=True
)


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
    "ended": ("Dead", lambda of: of.is_in("dead")),
    "stopped": ("Cancelled", lambda of: of.is_in("cancelled")),
    "done": ("Done", lambda of: of.is_in("success")),
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

    def take(self, engine: Engine) -> tuple[Counts, Mapping[str, Outline]]:
        """Return the counts, and what was read to count them now, if it was. Raises `StoreUnavailable`."""
        with self._lock:
            if self.clock() < self._at + COUNTED_SECONDS:
                return self._counts, {}
            self._counts, read = self._count(engine)
            self._at = self.clock()
            return self._counts, read

    def select(
        self,
        engine: Engine,
        bids: Sequence[str],
        fits: Callable[[Outline], bool],
        known: Mapping[str, Outline],
    ) -> list[str]:
        """Return those of these batches that stand so, but for gone ones. Raises `StoreUnavailable`.

        Args:
            engine: The app's.
            bids: The batches.
            fits: Whether a batch stands so.
            known: Batches that were read just now.
        """
        settled = self._find_settled(bids)
        read = self._read(engine, [bid for bid in bids if bid not in settled and bid not in known])
        outlines = {bid: known[bid] for bid in bids if bid in known} | read
        outlines |= dict.fromkeys(settled, Outline(bid="", standing=SETTLED))
        return [bid for bid in bids if bid in outlines and fits(outlines[bid])]

    def _find_settled(self, bids: Sequence[str]) -> frozenset[str]:
        since = self.clock() - SETTLED_SECONDS
        return frozenset(bid for bid in bids if self._settled.get(bid, -math.inf) > since)

    def _read(self, engine: Engine, bids: Sequence[str]) -> dict[str, Outline]:
        """Read how batches stand, and keep which of them are settled."""
        read = {each.bid: each for each in engine.store.read_outlines(bids, texts=False, standings=True)}
        if len(self._settled) > SETTLED_AT_MOST:
            self._settled.clear()
        settled = [each.bid for each in read.values() if each.standing and each.standing.is_settled]
        self._settled |= dict.fromkeys(settled, self.clock())
        return read

    def _count(self, engine: Engine) -> tuple[Counts, Mapping[str, Outline]]:
        tabs, counted = dict.fromkeys(TABS, 0), 0
        found: dict[str, Outline] = {}
        for page in engine.store.walk_places():
            bids = [bid for bid, _ in page[: COUNTED_AT_MOST - counted]]
            settled = self._find_settled(bids)
            tabs[""] += len(settled)
            tabs["done"] += len(settled)
            found |= self._read(engine, [bid for bid in bids if bid not in settled])
            counted += len(bids)
            if counted == COUNTED_AT_MOST:
                break
        for name, (_, fits) in TABS.items():
            tabs[name] += sum(map(fits, found.values()))
        urgent = (bid for bid, outline in found.items() if needs_hands(outline))
        counts = Counts(tabs=tabs, counted=counted, urgent=tuple(islice(urgent, URGENT_AT_MOST)))
        return counts, found

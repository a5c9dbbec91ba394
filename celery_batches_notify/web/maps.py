"""The picture of all members of a batch. While the batch moves, it is drawn at most once a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from celery_batches_notify.engine import Engine
from celery_batches_notify.member_map import draw_map
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.web.answers import answer_tagged
from celery_batches_notify.web.clusters import is_still, tag_of
from celery_batches_notify.web.newest import keep_newest

KEPT = 8  # a map of a million members takes up to 250 kB
DRAWN_SECONDS = 1.0
# In the order of the states: waiting, failing, dead, succeeded.
COLOURS = {
    "light": ("#d5dbe1", "#8f5f00", "#4d0710", "#3fa46a"),
    "dark": ("#39424d", "#d9a52b", "#ffe3e6", "#2f8a57"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """A drawn map, the tag of the states that it shows, and the time of its drawing."""

    png: bytes
    tag: str
    at: float


@dataclass(slots=True)
class Maps:
    """Draws maps, and keeps the latest, so that all who watch a batch share its map.

    Args:
        clock: A monotonic clock, in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _kept: dict[tuple[str, str], Map] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, engine: Engine, request: Request, bid: str, theme: str) -> Response:
        """Answer with a batch's map. Raises the errors of `read_view`."""
        status, now = engine.store.read_briefly(bid)
        with self._lock:  # one at a time draws, and the others take what it drew
            found = self._kept.get((bid, theme))
            if found is None or not self._is_fresh(found, status, now):
                found = self._draw(engine, status, theme)
        return answer_tagged(request, found.png, "image/png", f"{found.tag}-{theme}")

    def _is_fresh(self, found: Map, status: BatchStatus, now: datetime) -> bool:
        if found.tag == tag_of(status):  # safety: map-kept
            return True
        return not is_still(status, now) and self.clock() < found.at + DRAWN_SECONDS  # safety: last-map

    def _draw(self, engine: Engine, status: BatchStatus, theme: str) -> Map:
        states = engine.store.read_states(status.bid, status.total)
        png = draw_map(states, status.total, COLOURS[theme])
        drawn = Map(png=png, tag=tag_of(status), at=self.clock())
        keep_newest(self._kept, (status.bid, theme), drawn, KEPT)
        return drawn

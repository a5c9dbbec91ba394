"""Where the dead and failing members of a batch are; computed again only if the batch has moved."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from celery_batches_notify.engine import Engine
from celery_batches_notify.member_map import CLUSTER_BUCKETS, count_buckets, describe_clusters, select_members
from celery_batches_notify.membership import State
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.web.newest import keep_newest

KEPT = 100
MAP_SECONDS = 5  # so often a page that is open loads the map of a batch that moves
CLUSTERED = ((State.DEAD, "dead"), (State.FAILING, "failing"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Where members are.

    Attributes:
        words: Where the dead and the failing ones are, one line each.
        dead: The indexes of the dead ones among those that were asked for.
    """

    words: tuple[str, ...] = ()
    dead: frozenset[int] = frozenset()


@dataclass(slots=True)
class ClusterReader:
    """Reads the states of a batch's members, and keeps what it found until the batch moves.

    So a page that is asked for again costs the same, however many members its batch has.
    """

    _kept: dict[str, tuple[str, Clusters]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, engine: Engine, status: BatchStatus, indexes: Collection[int]) -> Clusters:
        """Return where a batch's dead and failing members are. Raises `StoreUnavailable`.

        Args:
            engine: The app's.
            status: The batch.
            indexes: The members with a stored failure.
        """
        if not status.failures:
            return Clusters()
        tag = tag_of(status)
        kept = self._kept.get(status.bid)
        if kept is not None and kept[0] == tag:  # safety: clusters-moved
            return kept[1]
        found = _find(engine.store.read_states(status.bid, status.total), status, indexes)
        with self._lock:
            keep_newest(self._kept, status.bid, (tag, found), KEPT)
        return found


def tag_of(status: BatchStatus) -> str:
    """Return a text that changes whenever a member changes its state."""
    moved = status.moved_at or status.created_at
    counts = status.total, status.succeeded, status.failures, status.dead
    return "-".join(map(str, (*counts, int(moved.timestamp() * 1000))))


def map_tag(status: BatchStatus, now: datetime) -> str:
    """Return a text for the map's URL, which changes as often as the map must be loaded again."""
    if is_still(status, now):
        return tag_of(status)
    return str(int(now.timestamp()) // MAP_SECONDS)


def is_still(status: BatchStatus, now: datetime) -> bool:
    """Return whether a batch has finished, or has not moved for a while: then its map must be exact."""
    moved = status.moved_at or status.created_at
    return status.finish_at is not None or now - moved >= timedelta(seconds=MAP_SECONDS)


def _find(states: bytes, status: BatchStatus, indexes: Collection[int]) -> Clusters:
    buckets = count_buckets(states, status.total, CLUSTER_BUCKETS)
    words = [describe_clusters(states, status.total, state, name, buckets) for state, name in CLUSTERED]
    return Clusters(words=tuple(filter(None, words)), dead=select_members(states, indexes, State.DEAD))

"""The collector: reads the store when Prometheus asks, so no process keeps figures of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import accumulate
from urllib.parse import unquote

from celery_batches_notify.engine import Engine
from celery_batches_notify.metrics.families import Family, Sample
from celery_batches_notify.model import STATES
from celery_batches_notify.store.store import Store
from celery_batches_notify.store.totals import BUCKETS_SECONDS, DELIVERED, ENDED, MEMBERS, TASK, delivery_name

LIVE_AT_MOST = 10_000
KEPT_SECONDS = 10.0
PREFIX = "celery_batches"


@dataclass(slots=True, kw_only=True)
class LiveSums:
    """The sums over the batches that have not finished, or still have callbacks to deliver."""

    states: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    open_deliveries: int = 0
    quiet: timedelta = timedelta()
    oldest: timedelta = timedelta()
    truncated: bool = False


class Collector:
    """Reads all metrics of one store; keeps the sums over live batches for ten seconds.

    Args:
        clock: A clock in seconds that never goes back.
        live_at_most: Over how many batches the sums go.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, live_at_most: int = LIVE_AT_MOST
    ) -> None:
        self._clock = clock
        self._live_at_most = live_at_most
        self._lock = threading.Lock()
        self._kept: tuple[float, LiveSums] | None = None

    def collect(self, engine: Engine) -> list[Family]:
        """Read all metrics. Raises `StoreUnavailable`."""
        counters = _counters(engine.store.read_totals(), engine.registry.channels())
        return [*counters, *_gauges(self._read_live(engine.store))]

    def _read_live(self, store: Store) -> LiveSums:
        with self._lock:  # scrapes that come together read once
            if self._kept is None or self._clock() - self._kept[0] >= KEPT_SECONDS:
                self._kept = self._clock(), sum_live(store, self._live_at_most)
            return self._kept[1]


def sum_live(store: Store, at_most: int) -> LiveSums:
    """Sum up the batches on the sweeper's list, the oldest ones if there are more than `at_most`."""
    live = LiveSums()
    for batch in store.walk_live_counts(at_most):
        live.states[batch.state] += 1
        live.open_deliveries += batch.open_deliveries
        if not batch.ended:
            live.pending += batch.pending
            live.quiet = max(live.quiet, batch.quiet)
            live.oldest = max(live.oldest, batch.age)
    live.truncated = sum(live.states.values()) >= at_most and store.count_live() > at_most
    return live


def _counters(totals: Mapping[str, int], channels: Sequence[str]) -> Iterator[Family]:
    yield _counter("created", "Batches that were created.", [({}, totals.get("created", 0))])
    yield _counter(
        "ended",
        "Batches that finished, by how they ended when they did.",
        [({"outcome": outcome}, totals.get(f"ended:{outcome}", 0)) for outcome in ENDED],
    )
    yield _counter(
        "members",
        "Members that succeeded, and members that were dead when their batch finished.",
        [({"outcome": outcome}, totals.get(f"members:{outcome}", 0)) for outcome in MEMBERS],
    )
    yield _durations(totals)
    yield _counter(
        "deliveries",
        "Callbacks that ended, by notifier or profile; of callbacks that are tasks, the channel is task.",
        list(_deliveries(totals, channels)),
    )
    swept_at = totals.get("swept_at", 0) / 1000
    yield _gauge("last_sweep_timestamp_seconds", "When a sweeper last finished a round, or 0.", swept_at)


def _deliveries(totals: Mapping[str, int], channels: Sequence[str]) -> Iterator[tuple[dict[str, str], int]]:
    """Yield the count of each channel and outcome, zeros too: a series that begins at 1 has not grown."""
    names = [name.split(":")[1] for name in totals if name.startswith("delivery:")]
    for channel in sorted({*map(unquote, names), *channels, TASK}):
        for outcome in DELIVERED:
            count = totals.get(delivery_name(channel, outcome), 0)
            yield {"channel": channel, "outcome": outcome}, count


def _durations(totals: Mapping[str, int]) -> Family:
    bounds = [*map(str, BUCKETS_SECONDS), "+Inf"]
    below = list(accumulate(totals.get(f"duration:{k}", 0) for k in range(len(bounds))))
    return Family(
        name=f"{PREFIX}_duration_seconds",
        kind="histogram",
        help="How long batches took from their creation to their end.",
        samples=(
            *(
                Sample(value=n, labels={"le": bound}, suffix="_bucket")
                for bound, n in zip(bounds, below, strict=True)
            ),
            Sample(value=totals.get("duration_ms", 0) / 1000, suffix="_sum"),
            Sample(value=below[-1], suffix="_count"),
        ),
    )


def _gauges(live: LiveSums) -> Iterator[Family]:
    yield Family(
        name=f"{PREFIX}_live",
        kind="gauge",
        help="Batches that have not finished, or still have callbacks to deliver, by state.",
        samples=tuple(Sample(value=live.states[state], labels={"state": state}) for state in STATES),
    )
    yield _gauge("members_pending", "Members that have not succeeded, in unfinished batches.", live.pending)
    yield _gauge("deliveries_open", "Callbacks that are on their way.", live.open_deliveries)
    yield _gauge(
        "quiet_seconds",
        "The longest time since a member of an unfinished batch was added or reported.",
        live.quiet.total_seconds(),
    )
    yield _gauge(
        "oldest_live_seconds", "The age of the oldest unfinished batch.", live.oldest.total_seconds()
    )
    yield _gauge(
        "scrape_truncated",
        f"1 if the figures of live batches go only over the oldest {LIVE_AT_MOST}, else 0.",
        live.truncated,
    )


def _counter(name: str, about: str, samples: list[tuple[dict[str, str], int]]) -> Family:
    return Family(
        name=f"{PREFIX}_{name}",
        kind="counter",
        help=about,
        samples=tuple(Sample(value=n, labels=labels, suffix="_total") for labels, n in samples),
    )


def _gauge(name: str, about: str, value: float) -> Family:
    return Family(name=f"{PREFIX}_{name}", kind="gauge", help=about, samples=(Sample(value=value),))

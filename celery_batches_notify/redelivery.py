"""Sending again what many batches could not deliver: by channel, event and time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import CorruptBatch, NoSuchBatch, SchemaTooNew
from celery_batches_notify.model import Event
from celery_batches_notify.operations import redeliver
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.parsing import Snapshot, parse_deliverable


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which callbacks to send again; None stands for any.

    Attributes:
        channel: A notifier, a profile, or a task's name, as `on()` had it.
        event: Their event.
        since: Of those that were given up only what was so within this time.
    """

    channel: str | None = None
    event: Event | None = None
    since: timedelta | None = None

    def fits(self, declared: Mapping[str, Any]) -> bool:
        """Whether a callback is meant."""
        return self.channel in (None, declared["target"]) and self.event in (None, declared["event"])

    def since_ms(self, snapshot: Snapshot) -> int:
        """Since when, by the store's clock."""
        return round((snapshot.now - self.since).timestamp() * 1000) if self.since else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivered:
    """What was done about one batch: how many callbacks are sent again, or why it cannot be read."""

    bid: str
    sent: int = 0
    why: str = ""


def redeliver_one(engine: Engine, bid: str, wanted: Wanted, *, ended: bool = False) -> int:
    """Send callbacks of one batch again; return how many. Raises `NoSuchBatch`."""
    snapshot = engine.store.read_snapshot(bid)
    with corrupt_errors(bid):
        places = [place for place, each in parse_deliverable(snapshot.batch).items() if wanted.fits(each)]
    return redeliver(engine, snapshot, places, ended=ended, since_ms=wanted.since_ms(snapshot))


def redeliver_many(engine: Engine, wanted: Wanted) -> Iterator[Redelivered]:
    """Send again what was given up, or is stuck or waits, in all batches that are kept, newest first."""
    for bid in engine.store.walk_undelivered():
        try:
            yield Redelivered(bid=bid, sent=redeliver_one(engine, bid, wanted))
        except NoSuchBatch:
            continue
        except (CorruptBatch, SchemaTooNew) as exc:
            yield Redelivered(bid=bid, why=str(exc))

"""Sends the undelivered callbacks of many batches again, chosen by channel, event and time."""

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
    """A choice of callbacks to send again; None stands for any.

    Attributes:
        channel: A notifier, a profile, or a task's name, as in `on()`.
        event: The event of the callbacks.
        since: Leave out callbacks that were given up longer ago than this.
    """

    channel: str | None = None
    event: Event | None = None
    since: timedelta | None = None

    def fits(self, declared: Mapping[str, Any]) -> bool:
        """Return whether a callback is chosen."""
        return self.channel in (None, declared["target"]) and self.event in (None, declared["event"])

    def since_ms(self, snapshot: Snapshot) -> int:
        """Return the start of `since` by the store's clock, in milliseconds."""
        return round((snapshot.now - self.since).timestamp() * 1000) if self.since else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivered:
    """The result for one batch: how many callbacks are sent again, or why it cannot be read."""

    bid: str
    sent: int = 0
    why: str = ""


def redeliver_one(engine: Engine, bid: str, wanted: Wanted, *, ended: bool = False) -> int:
    """Send callbacks of one batch again; return how many. Raises `NoSuchBatch`."""
    snapshot = engine.store.read_snapshot(bid)
    with corrupt_errors(bid):
        places = [place for place, each in parse_deliverable(snapshot).items() if wanted.fits(each)]
    return redeliver(engine, snapshot, places, ended=ended, since_ms=wanted.since_ms(snapshot))


def redeliver_many(engine: Engine, wanted: Wanted) -> Iterator[Redelivered]:
    """Send callbacks again that were given up, are stuck or wait, for all stored batches, newest first."""
    for bid in engine.store.walk_undelivered():
        try:
            yield Redelivered(bid=bid, sent=redeliver_one(engine, bid, wanted))
        except NoSuchBatch:
            continue
        except (CorruptBatch, SchemaTooNew) as exc:
            yield Redelivered(bid=bid, why=str(exc))

"""Sends callbacks again, of one batch or of many, chosen by channel, event and time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import CorruptBatch, InvalidCallback, NoSuchBatch, SchemaTooNew
from celery_batches_notify.model import Event
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.outbox import parse_address
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


def redeliver_event(
    engine: Engine, bid: str, event: Event, *, n: int | None = None, ended: bool = False
) -> int:
    """Send callbacks of an event once more; return how many. See `Batch.redeliver`.

    Raises:
        InvalidCallback: The callback does not exist.
        NoSuchBatch: The batch is gone.
    """
    snapshot, entries = _find_callbacks(engine, bid, Wanted(event=event))
    if n is not None:
        if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < len(entries):
            numbers = f"are numbered from 0 to {len(entries) - 1}" if entries else "do not exist"
            raise InvalidCallback(f"batch {bid} has no callback {event}:{n}: those for {event} {numbers}")
        entries, ended = [f"{event}:{n}"], True
    return _redeliver(engine, snapshot, entries, ended=ended)


def redeliver_one(engine: Engine, bid: str, wanted: Wanted, *, ended: bool = False) -> int:
    """Send callbacks of one batch again; return how many. Raises `NoSuchBatch`."""
    snapshot, entries = _find_callbacks(engine, bid, wanted)
    return _redeliver(engine, snapshot, entries, ended=ended, since_ms=wanted.since_ms(snapshot))


def redeliver_many(engine: Engine, wanted: Wanted) -> Iterator[Redelivered]:
    """Send callbacks again that were given up, are stuck or wait, for all stored batches, newest first."""
    for bid in engine.store.walk_undelivered():
        try:
            yield Redelivered(bid=bid, sent=redeliver_one(engine, bid, wanted))
        except NoSuchBatch:
            continue
        except (CorruptBatch, SchemaTooNew) as exc:
            yield Redelivered(bid=bid, why=str(exc))


def _find_callbacks(engine: Engine, bid: str, wanted: Wanted) -> tuple[Snapshot, list[str]]:
    """Read a batch; return it, and the entries of the callbacks that are chosen."""
    snapshot = engine.store.read_snapshot(bid)
    with corrupt_errors(bid):
        entries = [entry for entry, each in parse_deliverable(snapshot).items() if wanted.fits(each)]
    return snapshot, entries


def _redeliver(
    engine: Engine, snapshot: Snapshot, entries: Sequence[str], *, ended: bool = False, since_ms: int = 0
) -> int:
    """Send callbacks once more, at once: open the addresses that they wait for. Return how many are sent.

    Args:
        engine: The app's engine.
        snapshot: The batch of the callbacks.
        entries: The entries of the callbacks in the outbox.
        ended: Send those that were delivered or skipped, too.
        since_ms: Leave out those that were given up before this time.
    """
    recorded = engine.store.redeliver_event(snapshot.bid, entries, ended=ended, since_ms=since_ms)
    for claim in recorded.due:
        if address := parse_address(snapshot.batch, claim.entry):
            engine.store.open_address(address.key, answered=False)
    engine.publisher.publish(snapshot.bid, recorded)
    return len(recorded.due)

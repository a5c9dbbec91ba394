"""Which live batches do not move, why, and what to do about each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from celery_batches_notify.errors import CorruptBatch, NoSuchBatch, SchemaTooNew
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.store.corrupt import readable
from celery_batches_notify.store.reading import Snapshot, parse_entry, parse_status
from celery_batches_notify.tracking.engine import Engine
from celery_batches_notify.tracking.repair.holders import WorkersReading, add_leases, ask_workers
from celery_batches_notify.tracking.repair.queues import BrokerReading, read_broker
from celery_batches_notify.tracking.repair.whereabouts import INSPECT_SECONDS, ids_of, walk_open

QUIET = timedelta(minutes=1)
PUBLISHED_FOR_LONG = timedelta(hours=1)
ASKED_ABOUT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """What is wrong with one batch, and what to do."""

    bid: str
    words: str
    mend: str


def find_complaints(engine: Engine) -> Iterator[Complaint]:
    """Look at every live batch. Raises `StoreUnavailable`."""
    broker = read_broker(engine.app, (), lambda _: False)
    workers = ask_workers(engine.app, INSPECT_SECONDS) if broker.readable else WorkersReading()
    workers = add_leases(workers, engine.store, lambda _: True)
    for live in engine.store.walk_live():
        bid = live.bid
        try:
            snapshot = engine.store.read_snapshot(bid)
            with readable(bid):
                status = parse_status(snapshot, engine.settings.stall_after)
                found = list(_look_at(engine, snapshot, status, broker, workers))
            yield from found
        except NoSuchBatch:
            continue
        except SchemaTooNew:
            words = "stored by a newer celery-batches-notify: this process leaves it alone"
            yield Complaint(bid=bid, words=words, mend="upgrade the workers and this machine")
        except CorruptBatch as exc:
            keys = f"{engine.store.keys.batch(bid)}*"
            yield Complaint(bid=bid, words=str(exc), mend=f"remove what it left: the keys {keys}")


def _look_at(
    engine: Engine, snapshot: Snapshot, status: BatchStatus, broker: BrokerReading, workers: WorkersReading
) -> Iterator[Complaint]:
    bid, now = status.bid, snapshot.now
    if not engine.store.is_whole(bid):
        yield Complaint(
            bid=bid,
            words="corrupt: the store has lost some of its keys, so it will never end",
            mend="set maxmemory-policy to noeviction, then Batch.get(bid).delete()",
        )
        return
    quiet = now - datetime.fromtimestamp(int(snapshot.batch[b"reported_at"]) / 1000, now.tzinfo)
    waits = status.total - status.succeeded - status.failures
    open_ = status.sealed_at is None and snapshot.batch.get(b"keep_open") != b"1"
    if open_ and quiet > engine.settings.abandon_after:
        yield Complaint(
            bid=bid,
            words=f"open, and nothing was added for {_words(quiet)}: its producer has probably died",
            mend="start a worker: its sweeper seals it; or run: batch sweep",
        )
    elif status.state == "stalled":
        yield Complaint(
            bid=bid,
            words=f"stalled: {waits:,} of {status.total:,} members wait, nothing moved for {_words(quiet)}",
            mend=f"see where they are: batch doctor {bid}",
        )
    elif status.sealed_at and waits and quiet > QUIET and not _is_known(engine, status, broker, workers):
        yield Complaint(
            bid=bid,
            words=f"{waits:,} of {status.total:,} members wait, and neither broker nor workers have any",
            mend=f"batch reconcile {bid} asks the result backend; then batch doctor {bid}",
        )
    yield from _look_at_deliveries(snapshot, status)


def _look_at_deliveries(snapshot: Snapshot, status: BatchStatus) -> Iterator[Complaint]:
    for callback in status.callbacks:
        name, now = f"{callback.entry} ({callback.target})", snapshot.now
        _, _, due = parse_entry(snapshot.outbox.get(callback.entry.encode()))
        fired_at = getattr(status, f"{callback.event}_at", None) or status.created_at
        late = now - due
        if callback.state == "given_up":
            words, mend = "was given up", f'Batch.get(bid).redeliver("{callback.event}")'
        elif callback.state == "due" and late > QUIET:
            words = f"is due since {_words(late)} and nobody publishes it"
            mend = "start a worker: its sweeper publishes it; or run: batch sweep"
        elif callback.state == "published" and now - fired_at > PUBLISHED_FOR_LONG:
            words = f"was published, and has not ended since its event {_words(now - fired_at)} ago"
            mend = f"see that a worker reads its queue; batch reconcile {status.bid} sends a lost one again"
        else:
            continue
        yield Complaint(bid=status.bid, words=f"the callback {name} {words}", mend=mend)


def _is_known(engine: Engine, status: BatchStatus, broker: BrokerReading, workers: WorkersReading) -> bool:
    """Whether anything of the batch is with the broker or a worker; also where nobody can tell."""
    if not broker.readable or workers.why or workers.silent or status.bid in broker.bids or status.children:
        return True
    members = islice(walk_open(engine, status.bid, status.total), ASKED_ABOUT)
    return any(task_id in workers.holders for member in members for task_id in ids_of(member))


def _words(span: timedelta) -> str:
    seconds = round(span.total_seconds())
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"

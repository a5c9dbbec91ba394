"""Find the live batches that do not move, the reason, and the fix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from celery_batches_notify.bar import count_parts
from celery_batches_notify.doctor.broker_queues import BrokerReading, read_broker
from celery_batches_notify.doctor.callbacks import QUIET, find_open, judge_callback, span
from celery_batches_notify.doctor.locate import INSPECT_SECONDS, NOBODY, ids_of, walk_open
from celery_batches_notify.doctor.worker_tasks import WorkersReading, add_leases, ask_workers
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import CorruptBatch, NoSuchBatch, SchemaTooNew
from celery_batches_notify.model import BatchStatus, CallbackStatus
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.outbox import from_ms
from celery_batches_notify.store.parsing import Snapshot, is_whole, parse_status
from celery_batches_notify.text import counted

ASKED_ABOUT = 1000
CORRUPT = "corrupt: the store has lost some of its keys, so it will never end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """A problem of a batch, a worker or a receiver. The fix is empty if the problem solves itself."""

    subject: str
    words: str
    fix: str


def find_complaints(engine: Engine) -> Iterator[Complaint]:
    """Check the workers, every live batch, and the ended batches that still need attention.

    Raises `StoreUnavailable`.
    """
    broker = read_broker(engine.app, (), lambda _: False)
    workers = NOBODY if broker.is_away else ask_workers(engine.app, INSPECT_SECONDS)
    workers = add_leases(workers, engine.store, lambda _: True)
    yield from complain_of_workers(workers)
    seen, waiting = set(), Waiting()
    for live in engine.store.walk_live():
        seen.add(live.bid)
        yield from _complain_of(engine, live.bid, broker, workers, waiting)
    for neglected in engine.store.walk_neglected():
        if neglected.bid not in seen:
            if neglected.is_unlisted:
                words = "the sweepers' list has lost it: nobody looks after it"
                fix = f"batch reconcile {neglected.bid} puts it back"
                yield Complaint(subject=neglected.bid, words=words, fix=fix)
            yield from _complain_of(engine, neglected.bid, broker, workers, waiting)
    yield from waiting.complain()


class Waiting:
    """Counts the callbacks that wait for each address, and until when at the latest."""

    def __init__(self) -> None:
        self._until: dict[str, list[datetime]] = {}

    def add(self, callbacks: Iterable[CallbackStatus]) -> None:
        """Count the callbacks that wait for an address."""
        for each in callbacks:
            if each.waits_for is not None and each.waits_until is not None:
                self._until.setdefault(each.waits_for, []).append(each.waits_until)

    def complain(self) -> Iterator[Complaint]:
        """Yield one complaint per address, without a fix: its callbacks go once it answers."""
        for shown, until in sorted(self._until.items()):
            verb = "waits" if len(until) == 1 else "wait"
            words = (
                f"failed or is busy: {counted(len(until), 'callback')} {verb} for it, "
                f"until {max(until):%Y-%m-%d %H:%M:%S} UTC at the latest"
            )
            yield Complaint(subject=shown, words=words, fix="")


def complain_of_workers(workers: WorkersReading) -> Iterator[Complaint]:
    """Yield the workers that run members or callbacks without reporting them."""
    for worker in workers.bare:
        yield Complaint(
            subject=f"worker {worker}",
            words="it has no batches, so what it runs is not counted",
            fix="call Batches(app) in the module that it is started with",
        )


def _complain_of(
    engine: Engine, bid: str, broker: BrokerReading, workers: WorkersReading, waiting: Waiting
) -> Iterator[Complaint]:
    try:
        snapshot = engine.store.read_snapshot(bid)
        with corrupt_errors(bid):
            status = parse_status(snapshot, engine.settings.stall_after)
            found = list(_examine_snapshot(engine, snapshot, status, broker, workers))
        waiting.add(status.callbacks)
        yield from found
    except NoSuchBatch:
        return
    except SchemaTooNew:
        words = "stored by a newer celery-batches-notify: this process leaves it alone"
        yield Complaint(subject=bid, words=words, fix="upgrade the workers and this machine")
    except CorruptBatch as exc:
        keys = f"{engine.store.keys.batch(bid)}*"
        yield Complaint(subject=bid, words=str(exc), fix=f"remove what it left: the keys {keys}")


def _examine_snapshot(
    engine: Engine, snapshot: Snapshot, status: BatchStatus, broker: BrokerReading, workers: WorkersReading
) -> Iterator[Complaint]:
    bid, now = status.bid, snapshot.now
    standing = complain_of_standstill(engine, snapshot, status)
    yield from standing
    if any(complaint.words == CORRUPT for complaint in standing):
        return
    waits = count_parts(status)["waiting"]
    quiet = _quiet(snapshot) > QUIET
    if (
        not standing
        and status.sealed_at
        and waits
        and quiet
        and not _is_known(engine, status, broker, workers)
    ):
        yield Complaint(
            subject=bid,
            words=f"{waits:,} of {status.total:,} members wait, and neither broker nor workers have any",
            fix=f"batch reconcile {bid} asks the result backend; then batch doctor {bid}",
        )
    for callback in find_open(engine, snapshot, status):
        words, fix = judge_callback(callback, now)
        if fix:
            yield Complaint(subject=bid, words=f"{callback.name} {words}", fix=fix)


def complain_of_standstill(engine: Engine, snapshot: Snapshot, status: BatchStatus) -> list[Complaint]:
    """Say whether a batch is damaged, abandoned or stalled, without a question to broker or workers."""
    bid, quiet = status.bid, _quiet(snapshot)
    if not is_whole(snapshot):
        fix = f"set maxmemory-policy to noeviction, then batch delete {bid}"
        return [Complaint(subject=bid, words=CORRUPT, fix=fix)]
    open_ = status.sealed_at is None and snapshot.batch.get(b"keep_open") != b"1"
    if open_ and quiet > engine.settings.abandon_after:
        words = f"open, and nothing was added for {span(quiet)}: its producer has probably died"
        fix = "start a worker: its sweeper seals it; or run: batch sweep"
        return [Complaint(subject=bid, words=words, fix=fix)]
    if status.state == "stalled":
        waits = count_parts(status)["waiting"]
        words = f"stalled: {waits:,} of {status.total:,} members wait, nothing moved for {span(quiet)}"
        return [Complaint(subject=bid, words=words, fix=f"see where they are: batch doctor {bid}")]
    return []


def _quiet(snapshot: Snapshot) -> timedelta:
    """How long no member was added or reported."""
    return snapshot.now - from_ms(int(snapshot.batch[b"reported_at"]))


def _is_known(engine: Engine, status: BatchStatus, broker: BrokerReading, workers: WorkersReading) -> bool:
    """Return whether broker or workers have anything of the batch; also True if that cannot be known."""
    if not broker.readable or workers.why or workers.silent or status.bid in broker.bids or status.children:
        return True
    members = islice(walk_open(engine, status.bid, status.total), ASKED_ABOUT)
    return any(task_id in workers.holders for member in members for task_id in ids_of(member))

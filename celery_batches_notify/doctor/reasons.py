"""Why a batch is not done, as far as the store alone knows: cheap, so a page asks it at every reading."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from celery_batches_notify.bar import count_parts
from celery_batches_notify.doctor.callbacks import find_open, judge_callback
from celery_batches_notify.doctor.diagnosis import Complaint, complain_of_standstill
from celery_batches_notify.engine import Engine
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.store.parsing import Snapshot


def find_reasons(engine: Engine, snapshot: Snapshot, status: BatchStatus) -> list[Complaint]:
    """Say why a batch is not done, the most urgent reason first; nothing if it is. Raises `StoreUnavailable`.

    Args:
        engine: The app's.
        snapshot: The batch as the store holds it.
        status: Its status.
    """
    found = []
    if status.finish_at is None:
        found += complain_of_standstill(engine, snapshot, status)
    found += _explain_members(status, kept_open=snapshot.batch.get(b"keep_open") == b"1")
    found += _explain_callbacks(engine, snapshot, status, snapshot.now)
    return found


def _explain_members(status: BatchStatus, *, kept_open: bool) -> Iterator[Complaint]:
    bid = status.bid
    waiting, failing = count_parts(status)["waiting"], status.failing
    if status.cut_short:
        words = "not all of its calls were made, so it cannot succeed"
        yield Complaint(subject=bid, words=words, fix="make the missing calls in a batch of their own")
    if status.dead and status.cancelled_at is None:
        words = f"{status.dead:,} {_are(status.dead)} dead: until they are retried, success cannot come"
        yield Complaint(subject=bid, words=words, fix=f"batch retry {bid}")
    for reason, count in status.unsendable.items():
        words = f"{count:,} of the dead cannot be sent again: {reason}"
        yield Complaint(subject=bid, words=words, fix="call these tasks anew")
    if status.cancelled_at is not None and waiting + failing:
        words = f"it was cancelled: workers discard the {waiting + failing:,} that are left as they arrive"
        yield Complaint(subject=bid, words=words, fix="")
    elif failing:
        words = f"{failing:,} failed and will run again by {'itself' if failing == 1 else 'themselves'}"
        yield Complaint(subject=bid, words=words, fix="")
    if waiting and status.cancelled_at is None:
        words = f"{waiting:,} {_have(waiting)} not run yet"
        yield Complaint(subject=bid, words=words, fix="")
    if status.sealed_at is None:
        fix = f"batch seal {bid}, if all calls were added" if kept_open else ""
        yield Complaint(subject=bid, words="it is open: calls can still be added", fix=fix)


def _explain_callbacks(
    engine: Engine, snapshot: Snapshot, status: BatchStatus, now: datetime
) -> Iterator[Complaint]:
    for callback in find_open(engine, snapshot, status):
        words, fix = judge_callback(callback, now)
        yield Complaint(subject=callback.name, words=words, fix=fix)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"

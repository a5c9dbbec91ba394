"""Cancel, retry and delete a stored batch and the batches below it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from celery_batches_notify.delivery.parents import REPORT_DUE, outcome_of
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import (
    BatchCancelled,
    CorruptBatch,
    NoSuchBatch,
    SchemaTooNew,
)
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.membership import Membership, State
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.family import parse_child_report
from celery_batches_notify.store.parsing import parse_status

logger = logging.getLogger(__name__)


def cancel_batch(engine: Engine, bid: str, *, terminate: bool) -> None:
    """Cancel a batch and those below it. Raises `NoSuchBatch`."""

    def cancel(each: str) -> None:
        engine.publisher.publish(each, engine.store.cancel_batch(each, terminate=terminate))

    _for_family(engine, bid, cancel)


def retry_batch(engine: Engine, bid: str) -> int:
    """Send the dead members of a batch and of the batches below it again; return how many.

    Raises:
        BatchCancelled: The batch was cancelled.
        NoSuchBatch: The batch is gone.
    """
    sent: list[int] = []
    _for_family(engine, bid, lambda each: sent.append(retry_members(engine, each)))
    return sum(sent)


def delete_batch(engine: Engine, bid: str) -> bool:
    """Remove a batch and those below it; return whether it existed.

    Its parent counts it as dead, because it would otherwise wait for ever.
    """
    return _remove_batch(engine, bid, "deleted", "the batch was deleted", family=True)


def discard_batch(engine: Engine, bid: str) -> None:
    """Remove a batch whose block raised after it was stored; its children go on without it.

    Its parent counts it as cancelled, which does not fire `death`.
    """
    _remove_batch(engine, bid, "cancelled", "the block that filled the batch raised", family=False)


def _remove_batch(engine: Engine, bid: str, reason: str, words: str, *, family: bool) -> bool:
    try:
        snapshot = engine.store.read_snapshot(bid)
        with corrupt_errors(bid):
            status = parse_status(snapshot, engine.settings.stall_after)
            report = parse_child_report(snapshot.batch)
    except (NoSuchBatch, CorruptBatch):
        return engine.store.delete_batch(bid, family=family)
    if report and not status.success_at:
        member = Membership(bid=report.parent_bid, index=report.index, task_id=bid)
        outcome = outcome_of(status, State.DEAD, report.version + 1, reason, words)
        with suppress(CorruptBatch):
            engine.publisher.publish(report.parent_bid, engine.store.record_outcome(member, outcome))
    return engine.store.delete_batch(bid, family=family)


def _for_family(engine: Engine, bid: str, do: Callable[[str], None]) -> None:
    """Call `do` with a batch and with each batch below it; skip those below that refuse.

    Raises:
        BatchesError: The batch itself refuses.
    """
    for each in engine.store.walk_family(bid):
        try:
            do(each)
        except (NoSuchBatch, BatchCancelled) as exc:
            if each == bid:
                raise
            BatchLog(logger, bid=each).debug("left out: %s", exc)
        except (CorruptBatch, SchemaTooNew) as exc:
            if each == bid:
                raise
            BatchLog(logger, bid=each).warning("left out: %s", exc)


def retry_members(engine: Engine, bid: str, indexes: Sequence[int] | None = None) -> int:
    """Send dead members of one batch again: all, or those with these indexes. Return how many.

    Raises:
        BatchCancelled: It was cancelled.
        NoSuchBatch: It is gone.
    """
    sent = 0
    for members in engine.store.claim_retries(bid, indexes):
        engine.resender.send(bid, members)
        engine.store.confirm_retries(bid, members, done=False)
        sent += len(members)
    if sent:
        engine.publisher.publish(bid, REPORT_DUE)
    return sent

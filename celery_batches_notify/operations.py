"""What can be done to a stored batch and the batches below it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from celery_batches_notify.delivery.parents import ENTRY as PARENT
from celery_batches_notify.delivery.parents import outcome_of
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import (
    BatchCancelled,
    CorruptBatch,
    InvalidCallback,
    NoSuchBatch,
    SchemaTooNew,
)
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.membership import Membership, State
from celery_batches_notify.model import Event
from celery_batches_notify.store.deliveries import Claim
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.outbox import parse_address
from celery_batches_notify.store.parsing import Snapshot, parse_deliverable, parse_status
from celery_batches_notify.store.store import Recorded

logger = logging.getLogger(__name__)


def publish_recorded(engine: Engine, bid: str, recorded: Recorded) -> None:
    """Publish what a script has made due."""
    if recorded.due:
        engine.publisher.publish_due(bid, recorded.claims)


def cancel_batch(engine: Engine, bid: str, *, terminate: bool) -> None:
    """Cancel a batch and those below it. Raises `NoSuchBatch`."""

    def cancel(each: str) -> None:
        publish_recorded(engine, each, engine.store.cancel_batch(each, terminate=terminate))

    _for_family(engine, bid, cancel)


def retry_batch(engine: Engine, bid: str) -> int:
    """Send the dead members of a batch and of those below it again; return how many.

    Raises:
        BatchCancelled: It was cancelled.
        NoSuchBatch: It is gone.
    """
    sent: list[int] = []
    _for_family(engine, bid, lambda each: sent.append(_retry_one(engine, each)))
    return sum(sent)


def delete_batch(engine: Engine, bid: str) -> bool:
    """Remove a batch and those below it; return whether it was there.

    Its parent, which would wait for it for ever, counts it as dead.
    """
    return _remove_batch(engine, bid, "deleted", "the batch was deleted", family=True)


def discard_batch(engine: Engine, bid: str) -> None:
    """Remove a batch whose block raised after it was stored; its children go on without it.

    Its parent counts it as discarded, which is no death.
    """
    _remove_batch(engine, bid, "cancelled", "the block that filled the batch raised", family=False)


def _remove_batch(engine: Engine, bid: str, reason: str, words: str, *, family: bool) -> bool:
    try:
        snapshot = engine.store.read_snapshot(bid)
        with corrupt_errors(bid):
            status = parse_status(snapshot, engine.settings.stall_after)
            telling = int(snapshot.batch.get(b"tellings", b"0")) + 1
            index = int(snapshot.batch.get(b"parent_index", b"0"))
    except (NoSuchBatch, CorruptBatch):
        return engine.store.delete_batch(bid, family=family)
    if status.parent_bid and not status.success_at:
        member = Membership(bid=status.parent_bid, index=index, task_id=bid)
        outcome = outcome_of(status, State.DEAD, telling, reason, words)
        with suppress(CorruptBatch):
            publish_recorded(engine, status.parent_bid, engine.store.record_outcome(member, outcome))
    return engine.store.delete_batch(bid, family=family)


def redeliver_event(
    engine: Engine, bid: str, event: Event, *, n: int | None = None, ended: bool = False
) -> int:
    """Send callbacks of an event once more; return how many. See `Batch.redeliver`.

    Raises:
        InvalidCallback: It has no such callback.
        NoSuchBatch: The batch is gone.
    """
    snapshot = engine.store.read_snapshot(bid)
    with corrupt_errors(bid):
        places = [place for place, c in parse_deliverable(snapshot.batch).items() if c["event"] == event]
    if n is not None:
        if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < len(places):
            numbers = f"from 0 to {len(places) - 1}" if places else "none"
            raise InvalidCallback(f"batch {bid} has no callback {event}:{n}: their numbers are {numbers}")
        places, ended = [f"{event}:{n}"], True
    return redeliver(engine, snapshot, places, ended=ended)


def redeliver(
    engine: Engine, snapshot: Snapshot, places: Sequence[str], *, ended: bool = False, since_ms: int = 0
) -> int:
    """Send callbacks once more; somebody wants that now, so addresses that they wait for are open again.

    Args:
        engine: The app's.
        snapshot: Their batch.
        places: Their places in the outbox.
        ended: Send what was delivered or skipped, too.
        since_ms: Of what was given up only what was so since then.
    """
    claims = engine.store.redeliver_event(snapshot.bid, places, ended=ended, since_ms=since_ms)
    for claim in claims:
        if address := parse_address(snapshot.batch, claim.entry):
            engine.store.open_address(address.key, answered=False)
    engine.publisher.publish_due(snapshot.bid, claims)
    return len(claims)


def _for_family(engine: Engine, bid: str, do: Callable[[str], None]) -> None:
    """Do something to a batch and to each below it; a batch below that does not allow it is left out.

    Raises:
        BatchesError: The batch itself does not allow it.
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


def retry_members(engine: Engine, bid: str, indexes: Sequence[int]) -> int:
    """Send those of these members of a batch again that are dead; return how many.

    Raises:
        BatchCancelled: It was cancelled.
        NoSuchBatch: It is gone.
    """
    return _retry_one(engine, bid, indexes)


def _retry_one(engine: Engine, bid: str, only: Sequence[int] | None = None) -> int:
    sent = 0
    for members in engine.store.claim_retries(bid, only):
        engine.resender.send(bid, members)
        engine.store.confirm_retries(bid, members, done=False)
        sent += len(members)
    if sent:
        engine.publisher.publish_due(bid, [Claim(entry=PARENT, attempts=0)])
    return sent

"""Seal batches whose producer died, and mark members dead that were never published."""

from __future__ import annotations

import logging

from celery_batches_notify.delivery.publisher import Publisher
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import Failure
from celery_batches_notify.store.parsing import Member
from celery_batches_notify.store.store import Store

REASON = "never published"
MEMBERS_AT_ONCE = 5000  # a large batch must not hold up the others

logger = logging.getLogger(__name__)


def abandon_batch(store: Store, publisher: Publisher, bid: str) -> None:
    """Seal a batch whose producer died, and write off its unpublished members, some per sweep.

    If this process dies, the chunk stays unconfirmed and the next sweep continues with it.
    """
    recorded = store.abandon_batch(bid)
    publisher.publish(bid, recorded)
    if recorded.word != "abandoned":
        return
    BatchLog(logger, bid=bid).warning("abandoned by its producer")
    seen = 0
    for first, count in store.walk_unconfirmed(bid):
        for member in store.read_members(bid, first, count):
            if member.state is State.WAITING and not _lives(store, member):
                identity = Membership(bid=bid, index=member.index, task_id=member.id)
                publisher.publish(bid, store.record_outcome(identity, never_published(member)))
        store.write_off_chunk(bid, first)
        seen += count
        if seen >= MEMBERS_AT_ONCE:
            return


def never_published(member: Member) -> Outcome:
    """Return the outcome of a member whose message, or whose record as a child, was never written."""
    failure = Failure(
        task_id=member.id,
        task="a batch" if member.is_batch else "an unknown task",
        error_class="NeverPublished",
        error_message="the process that made this call died before it was sent: call it in another batch",
        backtrace=None,
        retries=0,
    )
    return Outcome(state=State.DEAD, reason=REASON, failure=failure, unsendable=REASON)


def _lives(store: Store, member: Member) -> bool:
    """Return whether it is a stored child, which reports to its parent by itself."""
    return member.is_batch and store.read_progress(member.id) is not None

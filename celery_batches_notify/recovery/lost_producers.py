"""Lost producers: a batch that nobody fills any more is sealed, and what never left counts as dead."""

from __future__ import annotations

import logging

from celery_batches_notify.delivery.publisher import Publisher
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import Failure
from celery_batches_notify.store.parsing import Member
from celery_batches_notify.store.store import Store

REASON = "never published"
MEMBERS_AT_ONCE = 5000  # other batches must not wait for all of a large one

logger = logging.getLogger(__name__)


def abandon_batch(store: Store, publisher: Publisher, bid: str) -> None:
    """Seal a batch whose producer died, and write off what it did not publish, a part per sweep.

    Whoever dies at this leaves the chunk unconfirmed, and the next sweep goes on with it.
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
                place = Membership(bid=bid, index=member.index, task_id=member.id)
                publisher.publish(bid, store.record_outcome(place, never_published(member)))
        store.write_off_chunk(bid, first)
        seen += count
        if seen >= MEMBERS_AT_ONCE:
            return


def never_published(member: Member) -> Outcome:
    """How a member ended whose message, or of a child whose record, never was."""
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
    """A child that was stored tells its parent itself what becomes of it."""
    return member.is_batch and store.read_progress(member.id) is not None

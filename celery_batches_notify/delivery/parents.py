"""Telling a parent batch what one of its children has become."""

from __future__ import annotations

from celery_batches_notify.model import BatchStatus, Failure, Membership, Outcome, State
from celery_batches_notify.store.store import Recorded, Store

ENTRY = "parent:0"


def tell_parent(store: Store, status: BatchStatus, index: int, telling: int, *, died: bool) -> list[Recorded]:
    """Report a child to its parent; return what that made due there.

    Args:
        store: Where both are.
        status: The child's.
        index: Its place in the parent.
        telling: The number of this report: a later one wins.
        died: Whether the child, or a batch below it, has had a dead member.
    """
    if status.parent_bid is None:
        return []
    recorded = [store.mark_death(status.parent_bid)] if died else []
    outcome = outcome_of(status, telling, died=died)
    if outcome is not None:
        member = Membership(bid=status.parent_bid, index=index, task_id=status.bid)
        recorded.append(store.record_outcome(member, outcome))
    return recorded


def outcome_of(status: BatchStatus, telling: int, *, died: bool) -> Outcome | None:
    """What a batch is as a member of its parent; None while it waits.

    Failing once it is complete but neither finished nor successful, dead when it finished without success.
    That is no death where there was none in it: then its dead members were discarded, and so was it.
    """
    if status.success_at:
        return Outcome(state=State.SUCCEEDED)
    ended = status.sealed_at and status.succeeded + status.dead == status.total
    if not ended and not status.complete_at:
        return None
    failure = Failure(
        task_id=status.bid,
        task=f"batch {status.description or status.bid}"[:200],
        error_class="BatchFailed",
        error_message=f"{status.failures} of {status.total} members failed, {status.dead} of them for good",
        backtrace=None,
        retries=telling - 1,
    )
    state = State.DEAD if ended else State.FAILING
    reason = "child" if died else "cancelled"
    return Outcome(state=state, attempt=telling, reason=reason, failure=failure, unsendable="")

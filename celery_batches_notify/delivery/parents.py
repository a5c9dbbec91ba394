"""Telling a parent batch what one of its children has become."""

from __future__ import annotations

from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import BatchStatus, Failure
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
    state = state_of(status)
    if state is not State.WAITING:
        # Where nobody died in it, its dead members were discarded with it, and so is it: that is no death.
        words = f"{status.failures} of {status.total} members failed, {status.dead} of them for good"
        outcome = outcome_of(status, state, telling, "child" if died else "cancelled", words)
        member = Membership(bid=status.parent_bid, index=index, task_id=status.bid)
        recorded.append(store.record_outcome(member, outcome))
    return recorded


def state_of(status: BatchStatus) -> State:
    """What a batch is as a member of its parent.

    Failing once it is complete but neither finished nor successful, dead when it finished without success.
    """
    if status.success_at:
        return State.SUCCEEDED
    if status.sealed_at and status.succeeded + status.dead == status.total:
        return State.DEAD
    return State.FAILING if status.complete_at else State.WAITING


def outcome_of(status: BatchStatus, state: State, telling: int, reason: str, words: str) -> Outcome:
    """How a batch is reported to its parent; `words` say what failed."""
    if state is State.SUCCEEDED:
        return Outcome(state=state)
    failure = Failure(
        task_id=status.bid,
        task=f"batch {status.description or status.bid}"[:200],
        error_class="BatchFailed",
        error_message=words,
        backtrace=None,
        retries=telling - 1,
    )
    return Outcome(state=state, attempt=telling, reason=reason, failure=failure, unsendable="")

"""Reporting a child batch to its parent."""

from __future__ import annotations

from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import BatchStatus, Failure
from celery_batches_notify.store.family import ChildReport
from celery_batches_notify.store.recorded import Recorded, first_claims
from celery_batches_notify.store.store import Store

ENTRY = "parent:0"
REPORT_DUE = Recorded(word="due", due=first_claims([ENTRY]))


def report_to_parent(store: Store, status: BatchStatus, report: ChildReport) -> list[Recorded]:
    """Report a child to its parent; return the answers, with the callbacks that became due there."""
    recorded = [store.record_death(report.parent_bid)] if report.had_death else []
    if report.state is not State.WAITING:
        # Members that were cancelled are not deaths, so neither is their batch in its parent.
        reason = "child" if report.had_death else "cancelled"
        message = f"{status.failures} of {status.total} members failed, {status.dead} of them for good"
        outcome = outcome_of(status, report.state, report.version, reason, message)
        member = Membership(bid=report.parent_bid, index=report.index, task_id=status.bid)
        recorded.append(store.record_outcome(member, outcome))
    return recorded


def outcome_of(status: BatchStatus, state: State, version: int, reason: str, message: str) -> Outcome:
    """Return the outcome of a batch as a member of its parent; `message` says what failed."""
    if state is State.SUCCEEDED:
        return Outcome(state=state)
    failure = Failure(
        task_id=status.bid,
        task=f"batch {status.description or status.bid}"[:200],
        error_class="BatchFailed",
        error_message=message,
        backtrace=None,
        retries=version - 1,
    )
    return Outcome(state=state, attempt=version, reason=reason, failure=failure, unsendable="")

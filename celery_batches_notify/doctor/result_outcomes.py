"""Turn a stored result into the outcome of a member that the store still waits for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from celery import Celery, states
from celery.app.task import Context
from celery.exceptions import Retry, TaskRevokedError, TimeLimitExceeded

from celery_batches_notify.membership import JUST_SUCCEEDED, Outcome, State
from celery_batches_notify.results import Meta, read_metas_since
from celery_batches_notify.store.parsing import Member
from celery_batches_notify.store.store import Store
from celery_batches_notify.worker import outcomes
from celery_batches_notify.worker.outcomes import runs_again

CHILDREN_AT_MOST = 1000


def outcome_from_result(app: Celery, member: Member, meta: Meta) -> Outcome | None:
    """Return how the member ended according to its result, or None if the result proves nothing.

    A failure may belong to the round before the last retry, and a member that hit its hard limit may be
    back in its queue: such results prove nothing. A success is always final.

    Args:
        app: The app of the tasks.
        member: The member.
        meta: The stored result.
    """
    state, result = meta.get("status"), meta.get("result")
    if state == states.SUCCESS:
        return JUST_SUCCEEDED
    if member.state == State.DEAD or member.round:
        return None
    request = Context(id=member.id, retries=_retries(meta, member.stamp))
    task, backtrace = str(meta.get("name") or "unknown"), meta.get("traceback")
    if state == states.FAILURE and not _may_run_again(app, result):
        return outcomes.dead(request, task, "failed", result, backtrace)
    if state == states.REVOKED:
        return outcomes.dead(request, task, "revoked", TaskRevokedError("revoked"))
    # A stored `Retry` is not a failure: Celery returned the task to the broker as the worker shut down.
    raised = result if isinstance(result, BaseException) and not isinstance(result, Retry) else None
    if state == states.RETRY and member.state == State.WAITING and raised is not None:
        return outcomes.failing(request, task, raised, backtrace)
    return None


def is_end_of_canvas(store: Store, backend: Any, bid: str, meta: Meta, since: datetime) -> bool:
    """Return whether everything that a succeeded canvas member published has succeeded or is a member.

    The result does not name the member's successors as its report would have, so they must have run before
    the member is counted. A task in a group may belong to a chord, and its result does not name the chord's
    body: that remains unknown.
    """
    left, seen = [meta], set()
    while left:
        meta = left.pop()
        if meta.get("status") != states.SUCCESS or meta.get("group_id") or "children" not in meta:
            return False
        ids = [task_id for task_id in walk_ids(meta["children"]) if task_id not in seen]
        seen.update(ids)
        if len(seen) > CHILDREN_AT_MOST:
            return False
        known = store.are_late(bid, ids)
        unknown = [task_id for task_id, late in zip(ids, known, strict=True) if not late]
        metas = read_metas_since(backend, unknown, since)
        left += [metas.get(task_id, {}) for task_id in unknown]
    return True


def walk_ids(children: Any) -> Iterator[str]:
    """Yield the task ids in a result's children, which Celery stores as nested pairs."""
    for name, parts in children or ():
        if parts:
            yield from walk_ids(parts)
        else:
            yield str(name[0] if isinstance(name, (list, tuple)) else name)


def _retries(meta: Meta, stamp: int) -> int:
    """Return the number of earlier attempts: from the result, or from the last counted attempt."""
    retries = meta.get("retries")
    return max(retries, stamp) if isinstance(retries, int) else stamp


def _may_run_again(app: Celery, exc: object) -> bool:
    return isinstance(exc, TimeLimitExceeded) and any(runs_again(task, exc) for task in app.tasks.values())

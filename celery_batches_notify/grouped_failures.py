"""The failures of a stored batch by kind, the dead members of each, and a retry of only those."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import InvalidCall
from celery_batches_notify.failure_groups import FailureGroup, group_failures
from celery_batches_notify.membership import State
from celery_batches_notify.operations import retry_members
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.parsing import Snapshot, parse_failures


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """Failures of one kind, and the dead members among them, by their index.

    Attributes:
        key: Names the kind in URLs and commands; the same in every batch.
        group: The failures.
        dead: The indexes of the members that are dead.
    """

    key: str
    group: FailureGroup
    dead: tuple[int, ...]


def find_groups(snapshot: Snapshot, states: bytes) -> list[GroupView]:
    """Return the failures of a batch by kind, the most frequent kind first."""
    by_index = parse_failures(snapshot.failures)
    indexes = {id(failure): index for index, failure in by_index.items()}
    views = []
    for group in group_failures(by_index.values()):
        members = [indexes[id(failure)] for failure in group.failures]
        about = "\n".join((group.first.task, group.first.error_class, group.message, group.place))
        key = hashlib.blake2b(about.encode("utf-8", "replace"), digest_size=6).hexdigest()
        dead = tuple(i for i in members if i // 4 < len(states) and _state_of(states, i) == State.DEAD)
        views.append(GroupView(key=key, group=group, dead=dead))
    return views


def retry_group(engine: Engine, bid: str, key: str) -> int:
    """Send the dead members of a batch again that failed in one way; return how many.

    Args:
        engine: The app's.
        bid: The batch.
        key: The key of the kind.

    Raises:
        InvalidCall: The batch has no failures of this kind.
        BatchCancelled: It was cancelled.
        NoSuchBatch: It is gone.
    """
    snapshot = engine.store.read_snapshot(bid)
    with corrupt_errors(bid):
        total = int(snapshot.batch.get(b"total", b"0"))
        groups = find_groups(snapshot, engine.store.read_states(bid, total))
    found = next((each for each in groups if each.key == key), None)
    if found is None:
        raise InvalidCall(f"batch {bid} has no group of failures {key!r}")
    return retry_members(engine, bid, found.dead)


def _state_of(states: bytes, index: int) -> int:
    return states[index // 4] >> (6 - index % 4 * 2) & 3

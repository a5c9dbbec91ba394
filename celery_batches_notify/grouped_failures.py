"""The failures of a stored batch by kind, the dead members of each, and a retry of only those."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import InvalidCall
from celery_batches_notify.failure_groups import FailureGroup, group_failures
from celery_batches_notify.member_map import select_members
from celery_batches_notify.membership import State
from celery_batches_notify.model import Failure
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


def find_groups(failures: Mapping[int, Failure], dead: Collection[int]) -> list[GroupView]:
    """Return the failures of a batch by kind, the most frequent kind first.

    Args:
        failures: The failures by the index of their member.
        dead: The indexes of dead members.
    """
    indexes = {id(failure): index for index, failure in failures.items()}
    views = []
    for group in group_failures(failures.values()):
        members = [indexes[id(failure)] for failure in group.failures]
        about = "\n".join((group.first.task, group.first.error_class, group.message, group.place))
        key = hashlib.blake2b(about.encode("utf-8", "replace"), digest_size=6).hexdigest()
        found = tuple(index for index in members if index in dead)
        views.append(GroupView(key=key, group=group, dead=found))
    return views


def read_groups(engine: Engine, snapshot: Snapshot) -> list[GroupView]:
    """Return the failures of a stored batch by kind. Raises `CorruptBatch` or `StoreUnavailable`."""
    with corrupt_errors(snapshot.bid):
        total = int(snapshot.batch.get(b"total", b"0"))
        failures = parse_failures(snapshot.failures)
    states = engine.store.read_states(snapshot.bid, total) if failures else b""
    return find_groups(failures, select_members(states, failures, State.DEAD))


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
    groups = read_groups(engine, engine.store.read_snapshot(bid))
    found = next((each for each in groups if each.key == key), None)
    if found is None:
        raise InvalidCall(f"batch {bid} has no group of failures {key!r}")
    return retry_members(engine, bid, found.dead)

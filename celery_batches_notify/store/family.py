"""The report of a batch to its parent. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from celery_batches_notify.membership import State
from celery_batches_notify.store.outbox import Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildReport:
    """The report of a batch to its parent, as the script that changed the batch decided.

    Attributes:
        parent_bid: The parent.
        index: The batch's place in the parent.
        state: Its state as a member of the parent.
        version: The number of this report: a later one wins.
        had_death: Whether the batch, or one below it, has had a dead member.
    """

    parent_bid: str
    index: int
    state: State
    version: int
    had_death: bool


def parse_child_report(batch: Hash) -> ChildReport | None:
    """Read the report of a batch to its parent, or None if it is not a child."""
    if not (parent := batch.get(b"parent_bid")):
        return None
    state, _, death = batch.get(b"parent_state", b"0").partition(b":")
    return ChildReport(
        parent_bid=parent.decode(),
        index=int(batch.get(b"parent_index", b"0")),
        state=State(int(state)),
        version=int(batch.get(b"parent_version", b"0")),
        had_death=bool(death),
    )

"""The members of a batch, a hundred at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_batches_notify.engine import Engine
from celery_batches_notify.member_map import find_members
from celery_batches_notify.membership import State
from celery_batches_notify.model import BatchStatus, Failure
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.parsing import Member, parse_failures, parse_status

MEMBERS_SHOWN = 100
STATES = {state.name.lower(): state for state in State}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPage:
    """A hundred members of a batch.

    Attributes:
        status: The batch.
        state: The state that the URL names, or "" for all.
        first: The index that the search began at.
        members: Those found, each with its failure if one is kept.
        next: The index to go on from, or None at the end.
    """

    status: BatchStatus
    state: str
    first: int
    members: tuple[tuple[Member, Failure | None], ...]
    next: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "bid": self.status.bid,
            "members": [
                {
                    "index": member.index,
                    "id": member.id,
                    "state": member.state.name.lower(),
                    "is_batch": member.is_batch,
                    "failure": failure.as_dict() if failure else None,
                }
                for member, failure in self.members
            ],
            "next": self.next,
        }


def read_member_page(engine: Engine, bid: str, given: Mapping[str, str]) -> MemberPage:
    """Read a hundred members, by index. Raises the errors of `read_view`.

    Args:
        engine: The app's.
        bid: The batch.
        given: The URL's parameters: `state`, and `from`, the first index.
    """
    snapshot = engine.store.read_snapshot(bid)
    with corrupt_errors(bid):
        failures = parse_failures(snapshot.failures)
        status = parse_status(snapshot, engine.settings.stall_after, failures)
    state = given.get("state", "") if given.get("state") in STATES else ""
    text = given.get("from", "0")
    first = min(int(text), status.total) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    most = MEMBERS_SHOWN + 1
    if state:
        states = engine.store.read_states(bid, status.total)
        indexes = find_members(states, status.total, STATES[state], first=first, most=most)
    else:
        indexes = list(range(first, min(first + most, status.total)))
    found = engine.store.read_members_at(bid, indexes[:MEMBERS_SHOWN])
    return MemberPage(
        status=status,
        state=state,
        first=first,
        members=tuple((member, failures.get(member.index)) for member in found),
        next=indexes[MEMBERS_SHOWN] if len(indexes) == most else None,
    )

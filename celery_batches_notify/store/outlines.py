"""Outlines of batches: what finds one in a long list, in few fields because thousands are looked at. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from celery_batches_notify.store.outbox import Hash, text_of
from celery_batches_notify.store.parsing import has_ended, name_values, parse_state, parse_tags

# The fields that find a batch in a list, after its schema: by its texts, and by how it stands.
TEXT_FIELDS = ("description", "tags")
STANDING_FIELDS = (
    *("total", "succeeded", "failing", "dead", "sealed_at", "cancelled_at", "reported_at"),
    *("complete_at", "finish_at", "success_at", "open", "given_up"),
)


class Standing(NamedTuple):
    """How a batch stands. Thousands are made for a list, so it is no dataclass, which takes twice as long.

    Attributes:
        state: Its state.
        is_live: Whether it has neither finished nor been cancelled.
        failing: How many members wait for their retry.
        dead: How many members are dead.
        given_up: How many of its callbacks were given up.
        has_ended: Whether it is sealed and each of its members has succeeded or is dead.
        is_settled: Whether it has succeeded and all its callbacks were delivered.
    """

    state: str
    is_live: bool
    failing: int
    dead: int
    given_up: int
    has_ended: bool
    is_settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What finds a batch in a list: as much of it as was read, or why it cannot be read."""

    bid: str
    description: str = ""
    tags: tuple[str, ...] = ()
    standing: Standing | None = None
    why: str = ""

    def is_in(self, state: str) -> bool:
        """Return whether it was read how the batch stands, and it stands in this state."""
        return self.standing is not None and self.standing.state == state


def parse_outline(
    bid: str, fields: Sequence[str], values: Sequence[bytes | None], now: datetime, stall_after: timedelta
) -> Outline:
    """Read the values of `TEXT_FIELDS`, of `STANDING_FIELDS`, or of both."""
    batch = name_values(fields, values)
    return Outline(
        bid=bid,
        description=text_of(batch, b"description"),
        tags=parse_tags(batch.get(b"tags", b"[]")),
        standing=parse_standing(batch, now, stall_after) if STANDING_FIELDS[0] in fields else None,
    )


def parse_standing(batch: Hash, now: datetime, stall_after: timedelta) -> Standing:
    """Read how a batch stands from its `STANDING_FIELDS`."""
    total, succeeded, dead = int(batch[b"total"]), int(batch[b"succeeded"]), int(batch[b"dead"])
    given_up, is_success = int(batch.get(b"given_up", b"0")), b"success_at" in batch
    return Standing(
        state=parse_state(batch, now, stall_after),
        is_live=b"finish_at" not in batch and b"cancelled_at" not in batch,
        failing=int(batch[b"failing"]),
        dead=dead,
        given_up=given_up,
        has_ended=has_ended(b"sealed_at" in batch, total, succeeded, dead),
        is_settled=is_success and not given_up and not int(batch.get(b"open", b"0")),
    )

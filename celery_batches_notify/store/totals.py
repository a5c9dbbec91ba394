"""The numbers that one batch adds to the counters that all processes share. Pure: no I/O."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from celery_batches_notify.store import parsing
from celery_batches_notify.store.outbox import parse_entry

BUCKETS_SECONDS = (1, 10, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600)
ENDED = ("success", "dead", "cancelled")
MEMBERS = ("succeeded", "dead")
DELIVERED = ("delivered", "given_up", "skipped")
TASK = "task"
COUNTED_FIELDS = ("created_at", "succeeded", "dead_at_finish", "finish_at", "success_at", "cancelled_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What one batch adds to the counters, as it was read at a time (ms since 1970)."""

    bid: str
    read_at: int
    numbers: Mapping[str, int]


def numbers_of(fields: Mapping[str, int]) -> dict[str, int]:
    """Return what a batch adds to the counters, from its `COUNTED_FIELDS`; 0 stands for a missing one."""
    found = {"created": 1, "members:succeeded": fields["succeeded"]}
    if finish_at := fields["finish_at"]:
        duration = max(finish_at - fields["created_at"], 0)
        found |= {
            "members:dead": fields["dead_at_finish"],
            f"ended:{_outcome_of(fields)}": 1,
            f"duration:{bisect_left(BUCKETS_SECONDS, duration / 1000)}": 1,
            "duration_ms": duration,
        }
    return found


def _outcome_of(fields: Mapping[str, int]) -> str:
    """Say how a batch ended when it did; a success that came later, by a retry, does not change that."""
    finish_at, success_at, cancelled_at = (fields[f"{e}_at"] for e in ("finish", "success", "cancelled"))
    if 0 < success_at <= finish_at:
        return "success"
    return "cancelled" if 0 < cancelled_at <= finish_at else "dead"


def deliveries_of(snapshot: parsing.Snapshot) -> dict[str, int]:
    """Return how many callbacks of a batch were delivered, given up or skipped, by channel.

    The channel is the notifier or its profile; it is `TASK` for all callbacks that are signatures.
    """
    found: Counter[str] = Counter()
    for entry, declared in parsing.parse_deliverable(snapshot).items():
        state = parse_entry(snapshot.outbox.get(entry.encode())).state
        if state in DELIVERED:
            found[delivery_name(declared["target"] if "notifier" in declared else TASK, state)] += 1
    return found


def delivery_name(channel: str, outcome: str) -> str:
    """Return the counter of a channel's deliveries that ended so."""
    return f"delivery:{quote(channel, safe='')}:{outcome}"

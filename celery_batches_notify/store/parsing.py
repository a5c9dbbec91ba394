"""Parses the keys of a batch into the values of the model. Pure: no I/O."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from kombu.utils import json

from celery_batches_notify.membership import State
from celery_batches_notify.model import BatchStatus, CallbackStatus, Event, Failure, Progress
from celery_batches_notify.store.outbox import Hash, from_ms, parse_address, parse_entry, text_of
from celery_batches_notify.store.packing import ATTEMPTS_PER_ROUND, ID_BYTES

MARKS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One reading of a batch's keys."""

    bid: str
    batch: Hash
    outbox: Hash
    failures: Hash
    children: int
    now: datetime
    ttl: timedelta
    callbacks: bytes = b"[]"
    curve: Hash = field(default_factory=dict)
    sizes: tuple[int, int, int] = (0, 0, 0)  # bytes of the states and of the ids, and the late members known


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member in the store: its task id, or the bid if it is a batch.

    `stamp` packs the round and the attempt of its last counted failure (`pack_stamp`), or is 0.
    """

    index: int
    id: str
    state: State
    is_batch: bool = False
    stamp: int = 0

    @property
    def round(self) -> int:
        """The round of its last counted failure."""
        return self.stamp // ATTEMPTS_PER_ROUND

    @property
    def attempt(self) -> int:
        """The attempt, within its round, of its last counted failure."""
        return self.stamp % ATTEMPTS_PER_ROUND


# The fields of a `Reading`; the rest of a batch's hash may be long.
READING_FIELDS = (
    *("schema", "total", "succeeded", "failing", "dead", "sealed_at", "cancelled_at", "reported_at"),
    *(f"{event}_at" for event in Event),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A batch's counters, and the events that have fired."""

    progress: Progress
    fired: frozenset[Event]

    @property
    def is_over(self) -> bool:
        """Whether it has finished and nothing runs: one whose dead members run again has finished once."""
        of = self.progress
        return of.finished and of.ended == of.total  # safety: retried-is-not-over


def parse_members(
    first: int,
    ids: bytes,
    states: bytes,
    stamps: bytes,
    names: Mapping[int, bytes],
    children: Mapping[int, bytes],
) -> list[Member]:
    """Read a chunk of members that begins at index `first`, a multiple of four."""
    members = []
    for k in range(len(ids) // ID_BYTES):
        index = first + k
        name = children.get(index) or names.get(index)
        packed = ids[k * ID_BYTES : (k + 1) * ID_BYTES]
        byte = states[k // 4] if k // 4 < len(states) else 0
        member = Member(
            index=index,
            id=name.decode() if name is not None else str(uuid.UUID(bytes=packed)),
            state=State(byte >> (6 - k % 4 * 2) & 3),
            is_batch=index in children,
            stamp=int.from_bytes(stamps[k * 2 : k * 2 + 2], "big"),
        )
        members.append(member)
    return members


def name_values(fields: Sequence[str], values: Sequence[bytes | None]) -> Hash:
    """Return the values of these fields as HGETALL gives them, without those that are missing."""
    names = encode_names(tuple(fields))
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


@lru_cache(maxsize=8)
def encode_names(fields: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return the names of fields in bytes; once, because lists of batches are long."""
    return tuple(name.encode() for name in fields)


def has_ended(is_sealed: object, total: int, succeeded: int, dead: int) -> bool:
    """Whether a batch is sealed and each of its members has succeeded or is dead."""
    return bool(is_sealed) and succeeded + dead == total


def parse_progress(bid: str, batch: Hash, now: datetime, stall_after: timedelta) -> Progress:
    """Read the counters."""
    total, succeeded, failing, dead = (int(batch[k]) for k in (b"total", b"succeeded", b"failing", b"dead"))
    return Progress(
        bid=bid,
        state=parse_state(batch, now, stall_after),
        total=total,
        pending=total - succeeded,
        succeeded=succeeded,
        failures=failing + dead,
        dead=dead,
        finished=b"finish_at" in batch,
    )


def parse_reading(bid: str, values: Sequence[bytes | None], now: datetime, stall_after: timedelta) -> Reading:
    """Read the values of `READING_FIELDS`."""
    batch = name_values(READING_FIELDS, values)
    return Reading(
        progress=parse_progress(bid, batch, now, stall_after),
        fired=frozenset(event for event in Event if f"{event}_at".encode() in batch),
    )


def parse_status(
    snapshot: Snapshot, stall_after: timedelta, failures: Mapping[int, Failure] | None = None
) -> BatchStatus:
    """Read a whole status; `failures` are what `parse_failures` returned, if it was called already."""
    batch = snapshot.batch
    if failures is None:
        failures = parse_failures(snapshot.failures)
    counts = parse_progress(snapshot.bid, batch, snapshot.now, stall_after)
    parent = batch.get(b"parent_bid")
    return BatchStatus(
        bid=snapshot.bid,
        description=text_of(batch, b"description"),
        tags=parse_tags(batch.get(b"tags", b"[]")),
        state=counts.state,
        abandoned_at=_at(batch, "abandoned_at"),
        moved_at=_at(batch, "reported_at"),
        cut_short=b"cut_short" in batch,
        total=counts.total,
        pending=counts.pending,
        succeeded=counts.succeeded,
        failures=counts.failures,
        dead=counts.dead,
        created_at=_require(_at(batch, "created_at")),
        sealed_at=_at(batch, "sealed_at"),
        complete_at=_at(batch, "complete_at"),
        success_at=_at(batch, "success_at"),
        death_at=_at(batch, "death_at"),
        finish_at=_at(batch, "finish_at"),
        cancelled_at=_at(batch, "cancelled_at"),
        expires_at=snapshot.now + snapshot.ttl,
        parent_bid=parent.decode() if parent else None,
        children=snapshot.children,
        unsendable={
            name.decode().removeprefix("unsendable:"): int(n)
            for name, n in batch.items()
            if name.startswith(b"unsendable:")
        },
        callbacks=tuple(_callbacks(snapshot)),
        failure_info=tuple(failures.values()),
    )


def parse_callbacks(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Read the declared callbacks, in the order of declaration."""
    declared: list[dict[str, Any]] = json.loads(snapshot.callbacks)
    return declared


def parse_deliverable(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """Read the declared callbacks, by their entry in the outbox."""
    return {f"{d['event']}:{d['n']}": d for d in parse_callbacks(snapshot)}


def parse_time(clock: Sequence[int]) -> datetime:
    """Read the answer of TIME."""
    return datetime.fromtimestamp(clock[0], UTC) + timedelta(microseconds=clock[1])


@lru_cache(maxsize=1024)  # many batches have the same
def parse_tags(stored: bytes) -> tuple[str, ...]:
    """Read a batch's tags."""
    return tuple(json.loads(stored))


def parse_state(batch: Hash, now: datetime, stall_after: timedelta) -> str:
    """Decide in which state a batch is: the first one that holds."""
    if b"success_at" in batch:
        return "success"
    if b"cancelled_at" in batch:
        return "cancelled"
    is_sealed = b"sealed_at" in batch
    if has_ended(is_sealed, int(batch[b"total"]), int(batch[b"succeeded"]), int(batch[b"dead"])):
        return "dead"
    if now - _require(_at(batch, "reported_at")) > stall_after:
        return "stalled"
    if b"complete_at" in batch:
        return "complete"
    return "running" if is_sealed else "open"


def _callbacks(snapshot: Snapshot) -> list[CallbackStatus]:
    return [
        _parse_callback(snapshot, declared["event"], declared["n"], declared["target"])
        for declared in parse_callbacks(snapshot)
    ]


def _parse_callback(snapshot: Snapshot, event: str, n: int, target: str) -> CallbackStatus:
    entry = f"{event}:{n}"
    stored = parse_entry(snapshot.outbox.get(entry.encode()))
    address = parse_address(snapshot.batch, entry) if stored.state == "due" else None
    return CallbackStatus(
        event=event,
        n=n,
        target=target,
        state=stored.state,
        attempts=stored.attempts,
        waits_for=address.shown if address else None,
        waits_until=stored.at if address else None,
    )


def parse_failures(stored: Hash) -> dict[int, Failure]:
    """Read the failures that are kept, by their member's index, in the order in which they happened."""
    records = []
    for index, value in stored.items():
        at, _, record = value.partition(b" ")
        records.append((int(at), int(index), json.loads(record)))
    return {
        index: Failure(**record, failed_at=from_ms(at))
        for at, index, record in sorted(records, key=lambda item: item[:2])
    }


def is_whole(snapshot: Snapshot) -> bool:
    """Return whether all keys that hold the batch's members are complete."""
    total, late = (int(snapshot.batch.get(name, b"0")) for name in (b"total", b"late"))
    states, ids, known = snapshot.sizes
    return states * 4 >= total and ids >= total * ID_BYTES and known >= late


def parse_curve(snapshot: Snapshot) -> list[tuple[datetime, int]]:
    """Read how many members had ended when: at the first end, and whenever another 64th had."""
    total = int(snapshot.batch.get(b"total", b"0"))
    return sorted((from_ms(int(at)), int(k) * total // MARKS) for k, at in snapshot.curve.items())


def parse_actions(batch: Hash) -> list[tuple[datetime, dict[str, Any]]]:
    """Read what was done to a batch by hand, the latest first."""
    found = []
    for name, value in batch.items():
        if name.startswith(b"action:"):
            number, at, note = value.split(b" ", 2)
            found.append((int(number), from_ms(int(at)), json.loads(note)))
    return [(at, note) for _, at, note in sorted(found, key=lambda each: -each[0])]


def _at(batch: Hash, name: str) -> datetime | None:
    value = batch.get(name.encode())
    return from_ms(int(value)) if value else None


def _require(at: datetime | None) -> datetime:
    if at is None:
        raise ValueError("the batch's hash holds no such time")
    return at

"""Parses and packs the outbox and the delivery log. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kombu.utils import json

from celery_batches_notify.model import DeliveryAttempt, DeliveryNote

Hash = Mapping[bytes, bytes]
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of the outbox, as it is stored.

    `at` is when it is due, when it was last heard of (if it is published), or when it ended. `number` is that
    of its present claim; `last` says that its last attempt is under way.
    """

    state: str
    attempts: int
    at: datetime
    number: int
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address that fails as a whole: the key that identifies it, and the part that may be shown."""

    key: str
    shown: str

    def __str__(self) -> str:
        return f"{self.key} {self.shown}"


def parse_entry(stored: bytes | None) -> Entry:
    """Read an entry of the outbox."""
    state, attempts, at, *more = (stored or b"waiting 0 0").decode().split(" ")
    number, last_at = (int(more[0]), int(more[1])) if more else (0, -1)
    return Entry(state=state, attempts=int(attempts), at=from_ms(int(at)), number=number, last=last_at == 0)


def parse_address(batch: Hash, entry: str) -> Address | None:
    """Read which address a delivery waits for."""
    key, _, shown = text_of(batch, f"waits:{entry}".encode()).partition(" ")
    return Address(key=key, shown=shown) if key else None


def pack_note(note: DeliveryNote) -> str:
    """Pack the end of a line of the delivery log; the script adds time, outcome, attempt and entry."""
    return str(json.dumps(asdict(note)))


def parse_attempts(stored: Sequence[Any]) -> list[DeliveryAttempt]:
    """Read the delivery log."""
    return [_parse_attempt(*line.split(b" ", 4)) for line in stored]


def _parse_attempt(at: bytes, outcome: bytes, attempt: bytes, entry: bytes, note: bytes) -> DeliveryAttempt:
    event, n = entry.decode().split(":")
    return DeliveryAttempt(
        at=from_ms(int(at)),
        outcome=outcome.decode(),
        attempt=int(attempt),
        event=event,
        n=int(n),
        **json.loads(note),
    )


def pack_owed(owed: Sequence[str]) -> str:
    """Pack the receivers that are still owed a delivery, or an empty text to leave them unchanged."""
    return str(json.dumps(list(owed))) if owed else ""


def parse_owed(batch: Hash, entry: str) -> tuple[str, ...]:
    """Read which receivers are still owed a delivery; empty means all."""
    return tuple(map(str, json.loads(batch.get(f"owed:{entry}".encode(), b"[]"))))


def from_ms(value: int) -> datetime:
    """Return the time of a number of ms since 1970."""
    return _EPOCH + timedelta(milliseconds=value)


def text_of(batch: Hash, name: bytes) -> str:
    """Return a text field of a batch's hash, or an empty text."""
    return batch.get(name, b"").decode("utf-8", "replace")

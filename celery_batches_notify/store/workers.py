"""Workers in the store: their heartbeats, and the records of their tasks in flight."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from celery_batches_notify.membership import Membership, Outcome
from celery_batches_notify.store import packing
from celery_batches_notify.store.base import StoreBase
from celery_batches_notify.store.errors import store_errors
from celery_batches_notify.store.one_way_connection import OneWayConnection
from celery_batches_notify.store.recorded import Recorded, first_claims
from celery_batches_notify.store.retries import Resend
from celery_batches_notify.store.snapshots import read_together

RECORDS_CHUNK = 500

_write_json = json.JSONEncoder(separators=(",", ":")).encode

Records = dict[str, bytes]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """When a worker was last heard of: in the store's milliseconds, and how many seconds ago that was."""

    wid: str
    at_ms: float
    seconds_ago: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Retaken(Recorded):
    """What became of a lost member: the call to send `again`, or None, and then the word says why."""

    again: Resend | None = None


class WorkerStore(StoreBase):
    """The store's methods for workers."""

    def beat_worker(self, wid: str) -> int:
        """Record a worker's heartbeat; return the store's time in milliseconds."""
        with store_errors(self.settings):
            answer = self.scripts.beat_worker([self.keys.workers], ["", wid, self._kept_ms])
        return int(answer[1])

    def note_app(self, app: str) -> str:
        """Record which app a worker that starts belongs to; return what the one before it belonged to."""
        with store_errors(self.settings):
            before = self.client.set(self.keys.app, app, px=self._kept_ms, get=True)
        return before.decode("utf-8", "replace") if isinstance(before, bytes) else ""

    def one_way_connection(self, wid: str) -> OneWayConnection:
        """Make the connection for a worker's records of tasks that begin, which does not wait for replies."""
        return OneWayConnection(lambda: self.client, self.settings, self.keys.worker(wid), self._kept_ms)

    def write_records(self, wid: str, records: Mapping[str, bytes]) -> None:
        """Write these records unless they exist; wait for the replies."""
        key = self.keys.worker(wid)
        for chunk in _chunks(records.items()):
            with store_errors(self.settings), self.client.pipeline(transaction=False) as pipe:
                for field, record in chunk:
                    pipe.hsetnx(key, field, record)
                pipe.pexpire(key, self._kept_ms)
                pipe.execute()

    def remove_records(self, wid: str, fields: Iterable[str]) -> None:
        """Remove the records of tasks that have ended."""
        for chunk in _chunks(fields):
            with store_errors(self.settings):
                self.client.hdel(self.keys.worker(wid), *chunk)

    def remove_worker(self, wid: str) -> None:
        """Forget a worker that has ended."""
        with store_errors(self.settings):
            self.client.unlink(self.keys.worker(wid))
            self.client.zrem(self.keys.workers, wid)

    def drop_worker(self, beat: Beat) -> None:
        """Take a lost worker off the list, unless it has been heard of since."""
        with store_errors(self.settings):
            self.scripts.drop_entries([self.keys.workers], ["", 0, beat.wid, beat.at_ms])

    def find_silent(self, lease_seconds: float) -> tuple[int, list[Beat]]:
        """Find the workers that have been silent for a whole lease; return the store's time (ms) with them.

        Both come from one script, so a caller that doubts the clock can doubt the silence as well.
        """
        with store_errors(self.settings):
            answer = self.scripts.find_silent([self.keys.workers], ["", round(lease_seconds * 1000)])
        clock_ms, found = int(answer[1]), answer[2:]
        beats = [
            Beat(wid=wid, at_ms=float(at), seconds_ago=abs(clock_ms - float(at)) / 1000)
            for wid, at in zip(found[::2], found[1::2], strict=True)
        ]
        return clock_ms, beats

    def read_beats(self) -> list[Beat]:
        """Read when each worker was last heard of, the longest silent first."""
        with store_errors(self.settings):
            clock, (beats,) = read_together(
                self.client,
                lambda pipe: pipe.zrange(self.keys.workers, 0, -1, withscores=True),
                clock_of=self.keys.workers,
            )
        now = clock[0] * 1000 + clock[1] / 1000
        return [Beat(wid=wid.decode(), at_ms=at, seconds_ago=(now - at) / 1000) for wid, at in beats]

    def walk_records(self, wid: str) -> Iterator[Records]:
        """Read a worker's records, in chunks."""
        chunk: Records = {}
        with store_errors(self.settings):
            for field, record in self.client.hscan_iter(self.keys.worker(wid), count=RECORDS_CHUNK):
                chunk[field.decode("utf-8", "replace")] = record
                if len(chunk) >= RECORDS_CHUNK:
                    yield chunk
                    chunk = {}
        if chunk:
            yield chunk

    def is_recorded(self, wids: Sequence[str], field: str) -> bool:
        """Whether one of these workers has a record of the same run."""
        with store_errors(self.settings), self.client.pipeline(transaction=False) as pipe:
            for wid in wids:
                pipe.hexists(self.keys.worker(wid), field)
            return any(pipe.execute())

    def read_workers(self) -> Iterator[tuple[str, float, dict[str, dict[str, Any]]]]:
        """Read each worker: its id, how many seconds ago it was heard of, and what it holds by task id."""
        for beat in self.read_beats():
            records = [item for chunk in self.walk_records(beat.wid) for item in chunk.items()]
            yield (
                beat.wid,
                beat.seconds_ago,
                {task_of(field): parse_record(record)[0] for field, record in records},
            )

    def resend_lost(self, member: Membership, outcome: Outcome) -> Retaken:
        """Take a lost member for another round, instead of marking it dead."""
        args = packing.pack_report(member, outcome, self.settings)
        word, *rest = self._change(self.scripts.resend_lost, member.bid, *args)
        if word != "claimed":
            return Retaken(word=word, due=first_claims(rest))
        index, round_, *due = rest
        again = Resend(index=index, round=round_, call=outcome.resend)
        return Retaken(word=word, again=again, due=first_claims(due))

    @property
    def _kept_ms(self) -> int:
        return round(self.settings.expires.total_seconds() * 1000)


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    left = iter(items)
    while chunk := list(islice(left, RECORDS_CHUNK)):
        yield chunk


def task_of(field: str) -> str:
    """Return the task id of a record's field; the rest of the field names the run."""
    return field.rpartition(" ")[0]


def pack_record(head: Mapping[str, Any], body: bytes) -> bytes:
    """Pack the record of a task in flight: a line of JSON, then its message's body as it came."""
    return _write_json(head).encode() + b"\n" + body


def parse_record(record: bytes) -> tuple[dict[str, Any], bytes]:
    """Parse the record of a task in flight. Raises `ValueError` or `TypeError` if it is malformed."""
    line, _, body = record.partition(b"\n")
    head = json.loads(line)
    if not isinstance(head, dict):
        raise TypeError("a record's first line must be a JSON object")
    return head, body

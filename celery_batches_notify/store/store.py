"""What can be done to a batch's keys: one method per script, and the readings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal

from redis import Redis

from celery_batches_notify.errors import BatchSealed, NoSuchBatch, SchemaTooNew
from celery_batches_notify.model import (
    BatchStatus,
    DeliveryAttempt,
    Event,
    Membership,
    Outcome,
    Progress,
    State,
)
from celery_batches_notify.settings import Settings
from celery_batches_notify.store import reading
from celery_batches_notify.store.connection import connect, store_errors
from celery_batches_notify.store.keys import Keys, channel
from celery_batches_notify.store.lists import Lists, LiveBatch
from celery_batches_notify.store.scripts import Argument, Script, Scripts
from celery_batches_notify.store.stream import Stream
from celery_batches_notify.store.sweep_lock import SweepLock


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the store says of a report: its word (`counted`, `repeated` …), and deliveries now due."""

    word: str
    due: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery taken for publishing: its place in the outbox, and how often it was tried before."""

    entry: str
    attempts: int


class Store:
    """The batches of one app, in its Redis or Valkey.

    Every method raises `StoreUnavailable` when the store cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.prefix)

    @cached_property
    def client(self) -> Redis:
        """The connection pool: made at first use, safe to share between threads and over a fork."""
        return connect(self.settings)

    @cached_property
    def scripts(self) -> Scripts:
        """The scripts over this client."""
        return Scripts(self.client)

    @cached_property
    def lists(self) -> Lists:
        """The lists of batches."""
        return Lists(self.client, self.scripts, self.keys, self.settings)

    # -- a batch's life -------------------------------------------------------------------------

    def open_batch(self, bid: str, fields: Mapping[str, str | int]) -> None:
        """Put the batch on the lists, then store it. Safe to repeat."""
        with store_errors(self.settings):
            self.lists.add_batch(bid)
        pairs = [part for pair in fields.items() for part in pair]
        self._run(self.scripts.open_batch, bid, *pairs)

    def enrol_members(
        self, bid: str, first: int, task_ids: Sequence[str], adder: Membership | Literal["owner", "other"]
    ) -> int:
        """Add members at index `first`, or behind those that others added meanwhile; return the index.

        Raises:
            BatchSealed: The batch takes no more members.
            NoSuchBatch: It is gone.
        """
        ids = b"".join(map(reading.pack_id, task_ids))
        if isinstance(adder, Membership):
            added_by: tuple[Argument, ...] = reading.pack_member(adder)
        else:
            added_by = (adder, b"", b"")
        named = [(i, task_id) for i, task_id in enumerate(task_ids) if not reading.is_uuid(task_id)]
        names = [part for pair in named for part in pair]
        while True:
            answer = self._run(self.scripts.enrol_members, bid, first, ids, *added_by, *names)
            if answer[0] == "moved":
                first = answer[1]
            elif answer[0] == "sealed":
                raise BatchSealed(
                    f"batch {bid} is sealed: members can only be added by one of its own running members, "
                    "or from outside before the seal (create it with keep_open=True to add in several goes)"
                )
            else:
                return first

    def seal_batch(self, bid: str) -> Recorded:
        """Seal the batch; return the deliveries that this made due."""
        answer = self._run(self.scripts.seal_batch, bid)
        return Recorded(word=answer[0], due=answer[1:])

    def record_outcome(self, member: Membership, outcome: Outcome) -> Recorded:
        """Count an outcome; return what became of it. A batch that is gone is no error here."""
        index, packed_id, late_of = reading.pack_member(member)
        args = (
            index,
            packed_id,
            int(outcome.state),
            reading.pack_stamp(member, outcome.attempt) if outcome.state != State.SUCCEEDED else 0,
            outcome.reason or "",
            reading.pack_failure(outcome.failure),
            self.settings.failures_kept,
            late_of,
            *reading.pack_successors(member, outcome),
        )
        answer = self._answer(self.scripts.record_outcome, member.bid, *args)
        if answer[0] == "retired":
            self.revive_batch(member.bid)
            answer = self._answer(self.scripts.record_outcome, member.bid, *args)
        return Recorded(word=answer[0], due=answer[1:])

    def delete_batch(self, bid: str) -> bool:
        """Remove the batch; return whether it was there."""
        with store_errors(self.settings):
            removed = self.client.unlink(*self.keys.of_batch(bid))
            self.lists.remove_batch(bid)
        return bool(removed)

    # -- deliveries -----------------------------------------------------------------------------

    def claim_deliveries(self, bid: str) -> list[Claim]:
        """Take the deliveries that are due, in the order in which they fired."""
        answer = self._run(self.scripts.claim_deliveries, bid)[1:]
        return [Claim(entry=e, attempts=n) for e, n in zip(answer[::2], answer[1::2], strict=True)]

    def settle_delivery(
        self,
        bid: str,
        entry: str,
        happened: str,
        attempt: int,
        *,
        delay_seconds: float = 0,
        log: DeliveryAttempt | None = None,
    ) -> str:
        """Note what happened to a delivery: see the script. Return its word."""
        delay = round(delay_seconds * 1000)
        line = reading.pack_attempt(log) if log else ""
        answer = self._answer(self.scripts.settle_delivery, bid, entry, happened, attempt, delay, line)
        return str(answer[0])

    def redeliver_event(self, bid: str, event: Event) -> list[Claim]:
        """Make the deliveries of an event that has fired due again, and take them."""
        with store_errors(self.settings):
            self.lists.add_live(bid)
        return [Claim(entry=e, attempts=0) for e in self._run(self.scripts.redeliver_event, bid, event)[1:]]

    def read_deliveries(self, bid: str) -> list[DeliveryAttempt]:
        """Read the delivery log, oldest first."""
        with store_errors(self.settings):
            return reading.parse_attempts(self.client.lrange(self.keys.part(bid, "deliveries"), 0, -1))

    def ask_host(self, host: str, attempt_seconds: float) -> float:
        """How many seconds a host that failed must be left alone; 0 to go ahead."""
        with store_errors(self.settings):
            answer = self.scripts.ask_host([self.keys.host(host)], ["", round(attempt_seconds * 1000)])
        return answer[1] / 1000 if answer[0] == "wait" else 0.0

    def note_host(self, host: str, *, answered: bool, pause_seconds: float = 0) -> None:
        """Note how a host answered; one that failed is left alone for a while, longer each time."""
        word = "answered" if answered else "failed"
        with store_errors(self.settings):
            self.scripts.note_host([self.keys.host(host)], ["", word, round(pause_seconds * 1000)])

    # -- reading --------------------------------------------------------------------------------

    def read_snapshot(self, bid: str) -> reading.Snapshot:
        """Read all that a status needs, at one moment.

        Raises:
            NoSuchBatch: It is gone.
        """
        key, part = self.keys.batch(bid), self.keys.part
        with store_errors(self.settings), self.client.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.pttl(key)
            for name in (key, part(bid, "outbox"), part(bid, "failures")):
                pipe.hgetall(name)
            clock, ttl, batch, outbox, failures = pipe.execute()
        if not batch:
            raise _gone(bid)
        return reading.Snapshot(
            bid=bid,
            batch=batch,
            outbox=outbox,
            failures=failures,
            now=reading.parse_time(clock),
            ttl=timedelta(milliseconds=max(ttl, 0)),
        )

    def read_status(self, bid: str) -> BatchStatus:
        """Read a batch's status. Raises `NoSuchBatch`."""
        return reading.parse_status(self.read_snapshot(bid), self.settings.stall_after)

    def read_progress(self, bid: str) -> Progress | None:
        """Read a batch's counters, or None where it is gone."""
        with store_errors(self.settings), self.client.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hgetall(self.keys.batch(bid))
            clock, batch = pipe.execute()
        if not batch:
            return None
        return reading.parse_progress(bid, batch, reading.parse_time(clock), self.settings.stall_after)

    def has_fired(self, bid: str, event: Event) -> bool:
        """Whether an event of the batch has fired. Raises `NoSuchBatch`."""
        with store_errors(self.settings):
            schema, at = self.client.hmget(self.keys.batch(bid), ["schema", f"{event}_at"])
        if schema is None:
            raise _gone(bid)
        return at is not None

    def list_batches(self) -> Iterator[BatchStatus]:
        """Read the statuses of all batches, newest first."""
        with store_errors(self.settings):
            for bid in self.lists.walk_newest():
                try:
                    yield self.read_status(bid)
                except NoSuchBatch:
                    self.lists.remove_batch(bid)

    def read_eviction_policy(self) -> str | None:
        """What the server does when its memory is full, or None where it does not say."""
        with store_errors(self.settings):
            policy: str | None = self.client.info("memory").get("maxmemory_policy")
        return policy

    def subscribe(self, bid: str) -> Stream:
        """Listen to a batch's tokens."""
        with store_errors(self.settings):
            return Stream(self.client, channel(bid))

    # -- the sweeper's list ---------------------------------------------------------------------

    def sweep_lock(self, seconds: float) -> SweepLock:
        """Make the lock that one sweeper holds at a time, for so many seconds."""
        return SweepLock(self.client, self.keys.sweeper, seconds)

    def walk_live(self) -> Iterator[LiveBatch]:
        """Read what the sweeper must know of every batch it looks after."""
        with store_errors(self.settings):
            yield from self.lists.walk_live()

    def retire_batch(self, batch: LiveBatch) -> None:
        """Take a batch that is over off the sweeper's list; a later report brings it back."""
        if self._answer(self.scripts.retire_batch, batch.bid)[0] != "live":
            with store_errors(self.settings):
                self.lists.drop_live(batch)

    def revive_batch(self, bid: str) -> None:
        """Put a batch back on the sweeper's list, so that it can change again."""
        with store_errors(self.settings):
            self.lists.add_live(bid)
        self._run(self.scripts.revive_batch, bid)

    # -- beneath --------------------------------------------------------------------------------

    def _answer(self, script: Script, bid: str, *args: Argument) -> list[Any]:
        with store_errors(self.settings):
            answer = script(self.keys.of_batch(bid), [channel(bid), *args])
        if answer[0] == "newer":
            raise SchemaTooNew(
                f"batch {bid} was stored by a newer celery-batches-notify: upgrade this process"
            )
        return answer

    def _run(self, script: Script, bid: str, *args: Argument) -> list[Any]:
        answer = self._answer(script, bid, *args)
        if answer[0] == "gone":
            raise _gone(bid)
        return answer


def _gone(bid: str) -> NoSuchBatch:
    return NoSuchBatch(f"there is no batch {bid}: it never was, was deleted, or has expired")

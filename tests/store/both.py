"""The store and the model side by side: each operation is done to both, and they must answer the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from celery_batches_notify.delivery.parents import REPORT_DUE, report_to_parent
from celery_batches_notify.errors import BatchCancelled, BatchSealed, NoSuchBatch
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.store.family import ChildReport, parse_child_report
from celery_batches_notify.store.recorded import Claim, Recorded
from celery_batches_notify.store.retries import Resend
from tests.store.compared import KINDS, Compared, new_bid, outcome_of
from tests.store.model_of_batches import PARENT, Adder, ModelBatch
from tests.store.model_of_deliveries import Delivery
from tests.store.model_of_families import ChildState
from tests.store.model_of_members import Report


@dataclass(frozen=True, kw_only=True)
class LateReport:
    """What a process read of a child, and has not reported to the parent yet."""

    status: BatchStatus
    report: ChildReport
    expected: ChildState


class Both(Compared):
    """The batches of one example: each operation is done to the store and to the model."""

    # -- a batch's life -------------------------------------------------------------------------

    def open(
        self, bid: str, kind: int = 1, *, keep_open: bool = False, parent: str | None = None, place: int = 0
    ) -> str:
        fields: dict[str, Any] = {**self.around.declare(kind), "keep_open": int(keep_open)}
        if parent:
            fields |= {"parent_bid": parent, "parent_index": place}
        self.world.open(
            ModelBatch(bid=bid, callbacks=KINDS[kind], keep_open=keep_open, parent=parent, place=place)
        )
        self.store.open_batch(self.touch(bid), fields, callbacks=fields.pop("declared"))
        return bid

    def enrol(
        self,
        bid: str,
        first: int,
        ids: Sequence[str],
        adder: Adder,
        *,
        children: bool = False,
        last: bool = False,
    ) -> int | None:
        batch = self.world.batches[self.touch(bid)]
        place = batch.enrol(first, ids, adder, are_batches=children, last=last)
        by = Membership(bid=bid, index=adder[0], task_id=adder[1]) if isinstance(adder, tuple) else adder
        try:
            assert self.store.enrol_members(bid, first, ids, by, children=children, last=last) == place
        except BatchSealed:
            assert place is None
        return place

    def seal(self, bid: str, firsts: Sequence[int] = ()) -> None:
        word, due = self.world.batches[self.touch(bid)].seal(firsts)
        try:
            self._same(self.store.seal_batch(bid, firsts), word, due)
        except BatchSealed:
            assert word == "abandoned"

    def confirm(self, bid: str, firsts: Sequence[int], who: Literal["owner", "other"]) -> None:
        theirs = self.world.batches[self.touch(bid)].confirm(firsts, who)
        try:
            self.store.confirm_members(bid, firsts, who)
            assert theirs
        except BatchSealed:
            assert not theirs

    def lose_producers(self, bid: str) -> None:
        """Let the time come at which they are given up, if there is one."""
        batch = self.world.batches[self.touch(bid)]
        if batch.awaited:
            batch.awaited = "now"
            self.store.client.hset(self.store.keys.batch(bid), "abandon_at", 1)

    def abandon(self, bid: str) -> None:
        """A sweeper seals it, and dies."""
        word, due = self.world.batches[self.touch(bid)].abandon()
        self._same(self.store.abandon_batch(bid), word, due)

    def cancel(self, bid: str, *, terminate: bool) -> None:
        word, due = self.world.cancel(self.touch(bid))
        self._same(self.store.cancel_batch(bid, terminate=terminate), word, due)

    def report(self, bid: str, report: Report) -> str:
        word, due = self.world.report(self.touch(bid), report)
        member = Membership(bid=bid, index=report.index, task_id=report.task_id, round=report.round)
        self._same(self.store.record_outcome(member, outcome_of(report)), word, due)
        return word

    def record_death(self, bid: str) -> None:
        due = self.world.record_death(self.touch(bid))
        self._same(self.store.record_death(bid), "recorded" if bid in self.world.batches else "gone", due)

    def remove(self, bid: str, *, deleted: bool) -> None:
        """Delete it alone, or let it expire: then the lists still name it."""
        assert self.store.client.unlink(*self.store.keys.of_batch(bid))
        if deleted:
            self.store.lists.remove_batch(bid)
            self.world.delete(bid)
        else:
            self.world.expire(bid)
        self.gone.append(bid)
        self.touch(bid)

    def age(self, bid: str, milliseconds: int) -> None:
        """Let most of its life go by."""
        with self.store.client.pipeline(transaction=False) as pipe:
            for key in self.store.keys.of_batch(self.touch(bid)):
                pipe.pexpire(key, milliseconds)
            pipe.execute()
        self.world.batches[bid].low = True

    # -- deliveries and rounds ------------------------------------------------------------------

    def claim_deliveries(self, bid: str) -> None:
        claims = self.world.batches[self.touch(bid)].claim_deliveries()
        found = self.store.claim_deliveries(bid).due
        assert [(c.entry, c.attempts, c.silent, c.last, c.number) for c in found] == claims

    def settle(self, bid: str, entry: str, happened: str, attempt: int, number: int = 0) -> None:
        word = self.world.batches[self.touch(bid)].settle(entry, happened, attempt, number)
        settled = self.store.settle_delivery(bid, entry, happened, attempt, delay_seconds=100, number=number)
        assert settled.word == word

    def redeliver(self, bid: str, event: str, *, ended: bool) -> None:
        entries = [f"{event}:{n}" for n in range(32)]
        numbers = {entry: d.number + 1 for entry, d in self.world.batches[bid].outbox.items()}
        due = self.world.redeliver(self.touch(bid), event, ended=ended)
        claims = self.store.redeliver_event(bid, entries, ended=ended).due
        assert [(claim.entry, claim.number) for claim in claims] == [(e, numbers.get(e, 1)) for e in due]

    def claim_retries(self, bid: str) -> list[tuple[int, int]]:
        claimed = self.world.claim_retries(self.touch(bid))
        try:
            got = {(r.index, r.round) for chunk in self.store.claim_retries(bid) for r in chunk}
        except BatchCancelled:
            assert claimed is None
            return []
        assert got == claimed
        return sorted(got)

    def confirm_retries(self, bid: str, sent: Sequence[tuple[int, int]], *, done: bool) -> None:
        self.world.batches[self.touch(bid)].confirm_retries(sent, done=done)
        self.store.confirm_retries(bid, [Resend(index=i, round=r, call="") for i, r in sent], done=done)

    def let_time_come(self) -> None:
        """Let every lease end and every wait be over."""
        with self.store.client.pipeline(transaction=False) as pipe:
            for bid, batch in self.world.batches.items():
                key = self.store.keys.batch(bid)
                due = {entry: d for entry, d in batch.outbox.items() if d.state == "due"}
                for entry, delivery in due.items():
                    pipe.hset(f"{key}:outbox", entry, self._entry(entry, delivery))
                    delivery.when = "now"
                if due:
                    pipe.hset(key, "next_due", 1)
                if batch.sending:
                    pipe.hset(key, "resend_at", 1)
                    batch.sending = "now"
            pipe.execute()

    def fall_silent(self, bid: str) -> None:
        """Let so much time go by that what is published should have been heard of."""
        key, batch = self.store.keys.batch(self.touch(bid)), self.world.batches[bid]
        for entry, delivery in batch.outbox.items():
            if delivery.state == "published":
                delivery.when = "silent"
                self.store.client.hset(f"{key}:outbox", entry, self._entry(entry, delivery))
                self.store.client.hset(key, "next_due", 1)

    def let_last_attempts_come(self, bid: str) -> None:
        """Let so much time go by that what has not ended must."""
        key, batch = self.store.keys.batch(self.touch(bid)), self.world.batches[bid]
        for entry, delivery in batch.outbox.items():
            if delivery.open and not delivery.last and entry != PARENT:
                *fields, _ = self.store.client.hget(f"{key}:outbox", entry).split()
                self.store.client.hset(f"{key}:outbox", entry, b" ".join([*fields, b"1"]))
                delivery.late = True
                if delivery.ripe:
                    self.store.client.hset(key, "next_due", 1)

    def _entry(self, entry: str, delivery: Delivery) -> str:
        """What the store holds of a delivery whose time was long ago."""
        last_at = 0 if delivery.last or entry == PARENT else 1 if delivery.late else 10**15
        return f"{delivery.state} {delivery.attempts} 1 {delivery.number} {last_at}"

    def publish(self, bid: str, entries: Sequence[str]) -> None:
        """Let the publisher have deliveries, as the process that made them due does."""
        numbers = {entry: self.world.batches[bid].outbox[entry].number for entry in entries}
        claims = [Claim(entry=entry, attempts=0, number=number) for entry, number in numbers.items()]
        self.world.publish(self.touch(bid), [(e, 0, False, False, number) for e, number in numbers.items()])
        self.around.publisher.publish(bid, Recorded(word="due", due=claims))

    def read_report(self, bid: str) -> LateReport:
        """Read a child, as a process that is about to report it to its parent, and then is slow."""
        snapshot = self.store.read_snapshot(bid)
        report = parse_child_report(snapshot.batch)
        assert report
        return LateReport(
            status=self.store.read_status(bid), report=report, expected=self.world.report_of(bid)
        )

    def report_late(self, late: LateReport) -> None:
        """Report to a parent what a child was some time ago."""
        bid, report = late.status.bid, late.report
        due = self.world.report_child(bid, self.touch(report.parent_bid), report.index, late.expected)
        recorded = report_to_parent(self.store, late.status, report)
        assert [each.entries for each in recorded] == due
        if bid in self.world.batches:
            self.settle(bid, PARENT, "delivered", report.version)

    def sweep(self) -> None:
        """Let a worker's sweeper look after everything once."""
        batches = list(self.store.walk_live())
        self.world.sweep([batch.bid for batch in batches])
        for batch in batches:
            self.around.sweeper.sweep_batch(batch)

    def retire(self, which: int) -> None:
        """Let a sweeper retire a batch that it saw some time ago, whatever has become of it."""
        if live := [batch for batch in self.store.walk_live() if not batch.gone]:
            seen = live[which % len(live)]
            self.world.live &= self.world.batches.keys()
            self.world.retire(seen.bid)
            self.store.retire_batch(seen)

    def read_broker(self) -> list[str]:
        """The ids of all that was sent, in the order in which it was."""
        with self.around.app.connection_for_read() as connection:
            channel, queue = connection.default_channel, self.around.app.conf.task_default_queue
            messages = iter(lambda: channel.basic_get(queue, no_ack=True), None)
            return [message.headers["id"] for message in messages]

    def refuse(self, bid: str) -> None:
        """Do everything to a batch that is gone."""
        store, member = self.store, Membership(bid=bid, index=0, task_id=new_bid())
        assert store.record_outcome(member, Outcome(state=State.SUCCEEDED)).word == "gone"
        assert store.record_death(bid).word == "gone"
        assert store.settle_delivery(bid, "complete:0", "delivered", 1).word == "gone"
        store.renew_batch(bid)
        self.around.publisher.publish(bid, REPORT_DUE)
        for call in (
            lambda: store.enrol_members(bid, 0, [new_bid()], "owner"),
            lambda: store.seal_batch(bid),
            lambda: store.confirm_members(bid, [0], "owner"),
            lambda: store.abandon_batch(bid),
            lambda: store.cancel_batch(bid, terminate=False),
            lambda: store.claim_deliveries(bid).due,
            lambda: store.check_watches(bid),
            lambda: store.read_status(bid),
        ):
            with pytest.raises(NoSuchBatch):
                call()

    def _same(self, recorded: Any, word: str, due: Sequence[str]) -> None:
        assert (recorded.word, recorded.entries) == (word, list(due))

"""All batches of a store, in plain Python: what one of them does to another, and what the sweeper does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from celery_batches_notify.membership import State
from tests.store.model_of_batches import PARENT, Claim, ModelBatch, Report

ChildState = tuple[State, int, bool]


class World:
    """Batches by their ids, and the two lists of them."""

    def __init__(self) -> None:
        self.batches: dict[str, ModelBatch] = {}
        self.live: set[str] = set()
        self.listed: set[str] = set()
        self.sent: list[str] = []

    def open(self, batch: ModelBatch) -> None:
        self.batches[batch.bid] = batch
        batch.await_producers()
        self.live.add(batch.bid)
        self.listed.add(batch.bid)

    def expire(self, bid: str) -> None:
        del self.batches[bid]

    def delete(self, bid: str) -> None:
        self.expire(bid)
        self.live.discard(bid)
        self.listed.discard(bid)

    # -- what brings a batch back to the sweeper ------------------------------------------------

    def report(self, bid: str, report: Report) -> tuple[str, list[str]]:
        word, due = self.batches[bid].report(report) if bid in self.batches else ("gone", [])
        return self._kept(bid, word), due

    def cancel(self, bid: str) -> tuple[str, list[str]]:
        word, due = self.batches[bid].cancel()
        return self._kept(bid, word), due

    def record_death(self, bid: str) -> list[str]:
        due = self.batches[bid].record_death() if bid in self.batches else []
        self._kept(bid, "marked")
        return due

    def claim_retries(self, bid: str) -> set[tuple[int, int]] | None:
        claimed = self.batches[bid].claim_retries() if bid in self.batches else set()
        self._kept(bid, "claimed")
        return claimed

    def redeliver(self, bid: str, event: str, *, ended: bool) -> list[str]:
        due = self.batches[bid].redeliver(event, ended=ended) if bid in self.batches else []
        self._kept(bid, "redelivered")
        return due

    def _kept(self, bid: str, word: str) -> str:
        """What is not retired is on the sweeper's list."""
        if bid in self.batches and not self.batches[bid].retired:
            self.live.add(bid)
        return word

    # -- families -------------------------------------------------------------------------------

    def report_of(self, bid: str) -> ChildState:
        """What one who reads a child now will tell its parent."""
        child = self.batches[bid]
        return child.as_member, child.parent_version, child.had_death

    def report_child(self, bid: str, parent: str, place: int, sent: ChildState) -> list[list[str]]:
        """Report a child to its parent: a death below is one here, but for members that were discarded."""
        state, version, had_death = sent
        due = [self.record_death(parent)] if had_death else []
        if state is not State.WAITING:
            reason = "child" if had_death else "cancelled"
            report = Report(
                index=place, task_id=bid, state=state, attempt=version, reason=reason, sendable=False
            )
            due.append(self.report(parent, report)[1])
        return due

    def publish(self, bid: str, claims: Iterable[Claim]) -> None:
        """Hand deliveries to the broker, and to the parent what it must know, and so on upwards."""
        for entry, attempts, silent, _, number in claims:
            batch = self.batches[bid]
            if silent:
                batch.settle(entry, "silent", attempts, number)
            elif entry != PARENT:
                self.sent.append(f"cb_{bid}_{entry.replace(':', '_')}")
                batch.settle(entry, "published", attempts + 1, number)
            elif batch.parent:
                sent = self.report_of(bid)
                made_due = self.report_child(bid, batch.parent, batch.place, sent)
                batch.settle(PARENT, "delivered", sent[1])
                for due in made_due:
                    self.publish(batch.parent, [(e, 0, False, False, 1) for e in due])

    def retire(self, bid: str) -> None:
        if self.batches[bid].over:
            self.batches[bid].retired = True
            self.live.discard(bid)

    def sweep(self, order: Sequence[str]) -> None:
        """Look after the live batches in this order, as they are when the list is read."""
        self.live &= self.batches.keys()
        seen = [
            (b, b.over, b.has_due, b.sending == "now", b.awaited)
            for bid in order
            if (b := self.batches.get(bid))
        ]
        for batch, over, has_due, unsent, awaited in seen:
            if batch.parent in self.batches:
                self._renew(self.batches[batch.parent], awaited)
            if unsent:
                if left := batch.unsent_retries():
                    self.sent += [batch.members[index].task_id for index, _ in left]
                    batch.confirm_retries(left, done=False)
                batch.confirm_retries([], done=True)
            if awaited == "now" and not over:
                self._abandon(batch)
            if over:
                self.retire(batch.bid)
            elif has_due and (claims := batch.claim_deliveries()):
                self.publish(batch.bid, claims)

    def _renew(self, parent: ModelBatch, awaited: str) -> None:
        """Whoever fills a child is not missed by its parent meanwhile."""
        if parent.awaited and awaited == "later":
            parent.awaited = "later"
        parent.move()

    def _abandon(self, batch: ModelBatch) -> None:
        word, due = batch.abandon()
        self.publish(batch.bid, [(entry, 0, False, False, 1) for entry in due])
        for first, reports in batch.never_published() if word == "abandoned" else ():
            for report in reports:
                if not (batch.members[report.index].is_batch and report.task_id in self.batches):
                    _, due = self.report(batch.bid, report)
                    self.publish(batch.bid, [(entry, 0, False, False, 1) for entry in due])
            batch.confirm([first], "sweeper")

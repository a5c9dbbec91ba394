"""Batches without a broker, and reports of their members as a worker makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery

from celery_batches_notify import Batch, Batches
from celery_batches_notify.engine import find_engine
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.messages.ids import new_ids
from tests.bench.child import serve

SUCCEEDED = Outcome(state=State.SUCCEEDED)
CHUNK = 1000
GROUP = 10


class StoreApp:
    """An app whose batches are at this URL, and whose calls go nowhere."""

    def __init__(self, url: str) -> None:
        self.app = Celery("bench", broker="memory://", set_as_current=False)
        self.app.conf.batches_backend_url = url
        Batches(self.app)
        self.app.task(_over, name="bench.over", shared=False)
        engine = find_engine(self.app)
        self.store: Any = engine.store
        self.sweep = engine.sweeper.sweep

    def open(self, *, callback: bool = False) -> Batch:
        """Store a batch that takes members."""
        batch = Batch(app=self.app, keep_open=True)
        if callback:
            batch.on("success", self.app.tasks["bench.over"].si())
        batch._enrolment.open()
        return batch

    def enrol(self, batch: Batch, total: int) -> list[str]:
        """Enrol and confirm so many members as a producer does; return their ids."""
        ids: list[str] = []
        for first in range(0, total, CHUNK):
            some = new_ids(min(CHUNK, total - first))
            self.store.enrol_members(batch.bid, first, some, "owner")
            self.store.confirm_members(batch.bid, [first], "owner")
            ids += some
        return ids

    @property
    def ways(self) -> dict[str, Callable[[str, Sequence[tuple[int, str]]], Any]]:
        """The ways of reporting."""
        return {"alone": self.report, "grouped": self.report_grouped}

    def report(self, bid: str, members: Sequence[tuple[int, str]]) -> Any:
        """Report that these members succeeded, one by one; return the last answer."""
        answer = None
        for index, task_id in members:
            member = Membership(bid=bid, index=index, task_id=task_id)
            answer = self.store.record_outcome(member, SUCCEEDED)
        return answer

    def report_grouped(self, bid: str, members: Sequence[tuple[int, str]]) -> None:
        """Report that these members succeeded, ten by ten."""
        for first in range(0, len(members), GROUP):
            some = members[first : first + GROUP]
            grouped = [Membership(bid=bid, index=index, task_id=task_id) for index, task_id in some]
            words = self.store.record_successes(bid, grouped)
            self.report(bid, [one for one, word in zip(some, words, strict=True) if word == "apart"])


def _over() -> None:
    """Be called back."""


def main(url: str, bid: str, share: str, shares: str) -> None:
    """Report every so manieth member of a batch, beside other processes that report the others."""
    ours = StoreApp(url)
    total = Batch.get(bid, app=ours.app).status().total
    every = [member for chunk in ours.store.walk_members(bid, total) for member in chunk]
    members = [(member.index, member.id) for member in every[int(share) :: int(shares)]]
    ways = {name: lambda n, way=way: way(bid, members[:n]) for name, way in ours.ways.items()}
    serve(ways, empty=lambda: None, facts={})

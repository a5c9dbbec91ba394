"""One example of the machine: its batches, what was done to them, and how a rule chooses among them."""

from __future__ import annotations

from hypothesis.stateful import RuleBasedStateMachine

from celery_batches_notify.membership import State
from tests.store.both import Both, LateReport
from tests.store.compared import Surroundings
from tests.store.model_of_batches import ModelBatch
from tests.store.model_of_members import Member, Report


class Example(RuleBasedStateMachine):
    """A few batches, and what was done to them."""

    around: Surroundings

    def __init__(self) -> None:
        super().__init__()
        self.both = Both(self.around)
        self.enrolled: list[tuple[str, int, list[str]]] = []
        self.confirmed: list[tuple[str, list[int]]] = []
        self.reported: list[tuple[str, Report]] = []
        self.read: list[LateReport] = []
        self.claimed: list[tuple[str, list[tuple[int, int]]]] = []
        self.ids = 0

    def teardown(self) -> None:
        self.both.compare_readings()
        self.around.client.flushall()
        if expected := self.both.world.sent:
            sent = self.both.read_broker()
            assert sorted(sent) == sorted(expected), "I-11: fixed ids on everything that is sent"
            assert callbacks_of(sent) == callbacks_of(expected), (
                "I-8: callbacks leave in the order in which they fired"
            )

    # -- choosing -------------------------------------------------------------------------------

    def some(self, which: int) -> ModelBatch:
        batches = list(self.both.world.batches.values())
        return batches[which % len(batches)]

    def members(self) -> list[tuple[ModelBatch, int, Member]]:
        """Those that are tasks."""
        batches = self.both.world.batches.values()
        return [(b, i, m) for b in batches for i, m in enumerate(b.members) if not m.is_batch]

    def unfinished(self) -> list[tuple[ModelBatch, int, Member]]:
        return [place for place in self.members() if place[2].state is not State.SUCCEEDED]

    def new_ids(self, count: int, *, uuids: bool = True) -> list[str]:
        self.ids += count
        numbers = range(self.ids - count, self.ids)
        return [f"{n:08x}-0000-4000-8000-000000000000" if uuids else f"task {n} ☃" for n in numbers]

    @property
    def has_batches(self) -> bool:
        return bool(self.both.world.batches)

    def say(self, batch: ModelBatch, index: int, state: State, **more: object) -> None:
        """Report what became of one run of a member. Every third one's arguments are not JSON."""
        task_id = batch.members[index].task_id
        report = Report(index=index, task_id=task_id, state=state, sendable=index % 3 < 2, **more)
        self.both.report(batch.bid, report)
        self.reported.append((batch.bid, report))

    def children(self) -> list[ModelBatch]:
        return [b for b in self.both.world.batches.values() if b.parent and b.parent_version]

    def parents(self) -> list[ModelBatch]:
        return [b for b in self.both.world.batches.values() if any(m.is_batch for m in b.members)]


def callbacks_of(ids: list[str]) -> list[str]:
    """Those of callbacks; members are sent again in any order."""
    return [task_id for task_id in ids if task_id.startswith("cb_")]

"""Everything that can be done to batches, in any order, on a real server and on the model.

Each step is one script, or what one process does with several; a process that dies between two of them is a
step that was not followed by the next. After each step everything that the store holds is compared with the
model, and the invariants are checked (`invariants.py`).
"""

from __future__ import annotations

from both import Both, LateTelling
from compared import Surroundings, new_bid
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model_of_batches import PARENT, ModelBatch
from model_of_members import Member, Report
from whole_store import AGED_MS

from celery_batches_notify.model import State

BATCHES_AT_MOST, MEMBERS_AT_MOST = 4, 8
SMALL = st.integers(0, 11)
HAPPENED = st.sampled_from(["published", "delivered", "due", "postponed", "given_up", "skipped"])
EVENTS = st.sampled_from(["cancel", "progress", "death", "complete", "finish", "success"])
FAILED = st.sampled_from([State.FAILING, State.DEAD])
REASONS = st.sampled_from(["failed", "failed", "revoked", "cancelled"])
ADDERS = st.sampled_from(["owner", "owner", "other"])


class Machine(RuleBasedStateMachine):
    """One example: at most four batches, and what happens to them."""

    around: Surroundings

    def __init__(self) -> None:
        super().__init__()
        self.both = Both(self.around)
        self.enrolled: list[tuple[str, int, list[str]]] = []
        self.reported: list[tuple[str, Report]] = []
        self.read: list[LateTelling] = []
        self.claimed: list[tuple[str, list[tuple[int, int]]]] = []
        self.ids = 0

    def teardown(self) -> None:
        self.around.store.client.flushall()

    @invariant()
    def the_store_holds_what_the_model_says(self) -> None:
        self.both.compare()

    # -- choosing -------------------------------------------------------------------------------

    def some(self, which: int) -> ModelBatch:
        batches = list(self.both.world.batches.values())
        return batches[which % len(batches)]

    def member(self, which: int) -> tuple[ModelBatch, int, Member] | None:
        """Any member that is a task."""
        places = [
            (b, i, m) for b in self.both.world.batches.values() for i, m in enumerate(b.members) if not m.is_batch
        ]
        return places[which % len(places)] if places else None

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

    # -- batches and members --------------------------------------------------------------------

    @initialize(kind=st.integers(0, 2), keep_open=st.booleans(), members=st.integers(0, 3))
    def begin(self, kind: int, keep_open: bool, members: int) -> None:
        bid = self.both.open(new_bid(), kind, keep_open=keep_open)
        if members:
            self.both.enrol(bid, 0, self.new_ids(members), "owner")

    @precondition(lambda self: len(self.both.world.batches) < BATCHES_AT_MOST)
    @rule(kind=st.integers(0, 2), keep_open=st.booleans(), parent=SMALL, born=st.sampled_from([True] * 4 + [False]))
    def open(self, kind: int, keep_open: bool, parent: int, born: bool) -> None:
        """A child is a member before it exists; its producer may die in between."""
        bid = new_bid()
        if not self.has_batches or parent == 0:
            self.both.open(bid, kind, keep_open=keep_open)
            return
        batch = self.some(parent)
        place = self.both.enrol(batch.bid, 0, [bid], "owner", children=True)
        if place is not None and born:
            assert self.both.enrol(batch.bid, 0, [bid], "owner", children=True) == place
            self.both.open(bid, kind, keep_open=keep_open, parent=batch.bid, place=place)

    @precondition(lambda self: self.has_batches)
    @rule(which=SMALL, count=st.integers(1, 3), behind=st.booleans(), uuids=st.booleans(), adder=ADDERS)
    def enrol(self, which: int, count: int, behind: bool, uuids: bool, adder: str) -> None:
        """Whoever is behind does not know of those that others added meanwhile."""
        batch = self.some(which)
        if len(batch.members) + count <= MEMBERS_AT_MOST:
            ids = self.new_ids(count, uuids=uuids)
            first = self.both.enrol(batch.bid, 0 if behind else len(batch.members), ids, adder)
            if first is not None:
                self.enrolled.append((batch.bid, first, ids))

    @precondition(lambda self: self.enrolled)
    @rule(which=SMALL, adder=ADDERS)
    def enrol_again(self, which: int, adder: str) -> None:
        bid, first, ids = self.enrolled[which % len(self.enrolled)]
        if bid in self.both.world.batches:
            self.both.enrol(bid, first, ids, adder)

    @precondition(lambda self: self.has_batches)
    @rule(which=SMALL, forged=st.sampled_from([False, False, True]))
    def a_member_enrols(self, which: int, forged: bool) -> None:
        chosen = self.member(which)
        if chosen and len(chosen[0].members) < MEMBERS_AT_MOST:
            batch, index, member = chosen
            (new,) = self.new_ids(1)
            self.both.enrol(batch.bid, len(batch.members), [new], (index, new if forged else member.task_id))

    @precondition(lambda self: self.has_batches)
    @rule(which=SMALL)
    def seal(self, which: int) -> None:
        self.both.seal(self.some(which).bid)

    @precondition(lambda self: self.has_batches)
    @rule(which=SMALL, terminate=st.booleans())
    def cancel(self, which: int, terminate: bool) -> None:
        self.both.cancel(self.some(which).bid, terminate=terminate)

    # -- reports --------------------------------------------------------------------------------

    @rule(which=SMALL)
    def succeed(self, which: int) -> None:
        if chosen := self.member(which):
            self.say(chosen[0], chosen[1], State.SUCCEEDED)

    @rule(which=SMALL, state=FAILED, reason=REASONS)
    def fail_next(self, which: int, state: State, reason: str) -> None:
        """The next attempt of the present round fails."""
        if chosen := self.member(which):
            batch, index, member = chosen
            round_, attempt = member.stamp
            self.say(batch, index, state, round=round_, attempt=attempt + 1, reason=reason)

    @rule(which=SMALL, state=FAILED, reason=REASONS, round_=st.integers(0, 2), attempt=st.integers(1, 3))
    def fail_any(self, which: int, state: State, reason: str, round_: int, attempt: int) -> None:
        if chosen := self.member(which):
            self.say(chosen[0], chosen[1], state, round=round_, attempt=attempt, reason=reason)

    @rule()
    def all_succeed(self) -> None:
        """All that has not ended succeeds: else hardly a batch would end."""
        for batch in self.both.world.batches.values():
            for index, member in enumerate(batch.members):
                if not member.is_batch and not member.ended:
                    self.say(batch, index, State.SUCCEEDED)

    @precondition(lambda self: self.reported)
    @rule(which=st.integers(0, 99))
    def report_again(self, which: int) -> None:
        self.both.report(*self.reported[-1 - which % len(self.reported)])

    @precondition(lambda self: self.has_batches)
    @rule(which=SMALL, index=st.integers(0, MEMBERS_AT_MOST), state=st.sampled_from(State), stolen=st.booleans())
    def forge(self, which: int, index: int, state: State, stolen: bool) -> None:
        """Say a member's place and another's id, or a place that nobody has."""
        batch, chosen = self.some(which), self.member(which + 1)
        there = batch.members[index].task_id if index < len(batch.members) else None
        task_id = chosen[2].task_id if stolen and chosen else self.new_ids(1)[0]
        if task_id != there and state is not State.WAITING:
            assert self.both.report(batch.bid, Report(index=index, task_id=task_id, state=state)) == "stranger"

    # -- deliveries -----------------------------------------------------------------------------

    @precondition(lambda self: any(b.outbox for b in self.both.world.batches.values()))
    @rule(which=SMALL, happened=HAPPENED, attempt=st.integers(0, 3))
    def settle(self, which: int, happened: str, attempt: int) -> None:
        entries = [(b.bid, e) for b in self.both.world.batches.values() for e in b.outbox if e != PARENT]
        if entries:
            attempt = max(attempt, 1) if happened == "postponed" else attempt
            self.both.settle(*entries[which % len(entries)], happened, attempt)

    @precondition(lambda self: self.has_batches)
    @rule(which=SMALL, event=EVENTS)
    def redeliver(self, which: int, event: str) -> None:
        self.both.redeliver(self.some(which).bid, event)

    @precondition(lambda self: self.has_batches)
    @rule(which=SMALL)
    def claim_deliveries(self, which: int) -> None:
        self.both.claim_deliveries(self.some(which).bid)

    @precondition(lambda self: any(b.open_deliveries for b in self.both.world.batches.values()))
    @rule(which=SMALL, arrive=st.booleans())
    def publish(self, which: int, arrive: bool) -> None:
        """Publish what a batch has due, parents told; and perhaps all of it arrives."""
        batches = [b for b in self.both.world.batches.values() if b.open_deliveries]
        batch = batches[which % len(batches)]
        self.both.publish(batch.bid, [e for e, d in batch.outbox.items() if d.state == "due"])
        for entry, delivery in batch.outbox.items():
            if arrive and entry != PARENT and delivery.open:
                self.both.settle(batch.bid, entry, "delivered", 0)

    @rule()
    def let_time_come(self) -> None:
        self.both.let_time_come()

    # -- families -------------------------------------------------------------------------------

    def children(self) -> list[ModelBatch]:
        return [b for b in self.both.world.batches.values() if b.parent and b.tellings]

    @precondition(lambda self: self.children())
    @rule(which=SMALL)
    def tell(self, which: int) -> None:
        child = self.children()[which % len(self.children())]
        self.both.publish(child.bid, [PARENT])

    @precondition(lambda self: self.children())
    @rule(which=SMALL)
    def read_child(self, which: int) -> None:
        self.read.append(self.both.read_telling(self.children()[which % len(self.children())].bid))

    @precondition(lambda self: self.read)
    @rule(which=SMALL)
    def tell_late(self, which: int) -> None:
        self.both.tell_late(self.read[which % len(self.read)])

    @precondition(lambda self: any(c.died for c in self.children()))
    @rule()
    def tell_half(self) -> None:
        """A process dies between the two scripts that tell a parent of a death."""
        child = next(c for c in self.children() if c.died)
        self.both.mark_death(child.parent or "")

    # -- another round --------------------------------------------------------------------------

    @precondition(lambda self: self.has_batches)
    @rule(which=SMALL)
    def claim_retries(self, which: int) -> None:
        bid = self.some(which).bid
        if claimed := self.both.claim_retries(bid):
            self.claimed.append((bid, claimed))

    @precondition(lambda self: self.claimed)
    @rule(which=SMALL, done=st.booleans())
    def confirm_retries(self, which: int, done: bool) -> None:
        bid, claimed = self.claimed[which % len(self.claimed)]
        if bid in self.both.world.batches:
            self.both.confirm_retries(bid, claimed, done=done)

    # -- time, and the sweeper ------------------------------------------------------------------

    @rule()
    def sweep(self) -> None:
        self.both.sweep()

    @precondition(lambda self: self.has_batches)
    @rule(which=SMALL)
    def age(self, which: int) -> None:
        self.both.age(self.some(which).bid, AGED_MS)

    @precondition(lambda self: len(self.both.world.batches) > 1)
    @rule(which=SMALL, deleted=st.booleans())
    def remove(self, which: int, deleted: bool) -> None:
        self.both.remove(self.some(which).bid, deleted=deleted)

    @precondition(lambda self: self.both.gone)
    @rule()
    def come_too_late(self) -> None:
        self.both.refuse(self.both.gone[-1])

    @rule()
    def forget_scripts(self) -> None:
        self.around.store.client.script_flush()

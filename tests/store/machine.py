"""Everything that can be done to batches, in any order, on a real server and on the model.

Each step is one script, or what one process does with several; a process that dies between two of them is a
step that was not followed by the next. After each step everything that the store holds is compared with the
model, and the invariants are checked (`invariants.py`).
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from celery_batches_notify.membership import State
from tests.store.compared import new_bid
from tests.store.example import Example
from tests.store.model_of_batches import LAST_ROUND, PARENT
from tests.store.model_of_members import Report
from tests.store.whole_store import AGED_MS

BATCHES_AT_MOST, MEMBERS_AT_MOST = 4, 8
SMALL = st.integers(0, 11)
SELDOM = st.integers(0, 3).map(lambda n: n == 1)
KINDS = st.integers(0, 2)
ROUNDS = st.sampled_from([0, 1, 2, LAST_ROUND])
HAPPENED = st.sampled_from(
    ["published", "delivered", "due", "postponed", "given_up", "skipped", "lost", "lost", "retried", "silent"]
)
CLAIMS = ["none", "present", "earlier"]
HOUSEKEEPING = ["claim", "claim late", "fall silent", "be late", "age", "retire", "forget scripts"]
ENDS = st.sampled_from([State.SUCCEEDED, State.FAILING, State.DEAD, State.DEAD])
REASONS = st.sampled_from(["failed", "failed", "failed", "revoked", "cancelled"])
ADDERS = st.sampled_from(["owner", "owner", "other"])


class Machine(Example):
    """The rules."""

    @invariant()
    def the_store_holds_what_the_model_says(self) -> None:
        self.both.compare()

    # -- batches and members --------------------------------------------------------------------

    @initialize(kind=KINDS, keep_open=st.booleans(), members=st.integers(0, 3), generations=st.integers(0, 2))
    def begin(self, kind: int, keep_open: bool, members: int, generations: int) -> None:
        """One batch, or also its child and grandchild; the youngest has members."""
        bid = self.both.open(new_bid(), kind, keep_open=keep_open)
        for _ in range(generations):
            bid = self.open_child(bid, kind)
        if members:
            self.both.enrol(bid, 0, self.new_ids(members), "owner")

    def open_child(
        self, parent: str, kind: int, members: int = 0, *, born: bool = True, keep_open: bool = False
    ) -> str:
        """A child is a member before it exists; its producer may die in between."""
        bid = new_bid()
        place = self.both.enrol(parent, 0, [bid], "owner", children=True)
        if place is not None and born:
            assert self.both.enrol(parent, 0, [bid], "owner", children=True) == place
            self.both.open(bid, kind, keep_open=keep_open, parent=parent, place=place)
            if members:
                self.both.enrol(bid, 0, self.new_ids(members), "owner")
        return bid

    @precondition(lambda self: len(self.both.world.batches) < BATCHES_AT_MOST)
    @rule(which=SMALL, kind=KINDS, members=st.integers(0, 2), keep_open=st.booleans(), unborn=SELDOM)
    def open(self, which: int, kind: int, members: int, keep_open: bool, unborn: bool) -> None:
        open_batches = [b.bid for b in self.both.world.batches.values() if not b.sealed]
        if open_batches:
            parent = open_batches[which % len(open_batches)]
            self.open_child(parent, kind, members, born=not unborn, keep_open=keep_open)
        else:
            self.both.open(new_bid(), kind, keep_open=keep_open)

    @precondition(lambda self: self.has_batches)
    @rule(
        which=SMALL,
        count=st.integers(1, 3),
        behind=st.booleans(),
        uuids=st.booleans(),
        adder=ADDERS,
        last=st.booleans(),
    )
    def enrol(self, which: int, count: int, behind: bool, uuids: bool, adder: str, last: bool) -> None:
        """Whoever is behind does not know of those that others added meanwhile."""
        unsealed = [b for b in self.both.world.batches.values() if not b.sealed]
        batch = unsealed[which % len(unsealed)] if unsealed else self.some(which)
        if len(batch.members) + count <= MEMBERS_AT_MOST:
            ids = self.new_ids(count, uuids=uuids)
            place = 0 if behind else len(batch.members)
            first = self.both.enrol(batch.bid, place, ids, adder, last=last)
            if first is not None:
                self.enrolled.append((batch.bid, first, ids))

    @precondition(lambda self: self.enrolled)
    @rule(which=SMALL, adder=ADDERS)
    def enrol_again(self, which: int, adder: str) -> None:
        bid, first, ids = self.enrolled[which % len(self.enrolled)]
        if bid in self.both.world.batches:
            self.both.enrol(bid, first, ids, adder)

    @precondition(lambda self: self.members())
    @rule(which=SMALL, forged=SELDOM)
    def a_member_enrols(self, which: int, forged: bool) -> None:
        places = self.unfinished() or self.members()
        batch, index, member = places[which % len(places)]
        if len(batch.members) < MEMBERS_AT_MOST:
            (new,) = self.new_ids(1)
            self.both.enrol(batch.bid, len(batch.members), [new], (index, new if forged else member.task_id))

    @precondition(lambda self: any(b.unconfirmed for b in self.both.world.batches.values()))
    @rule(which=SMALL, all_of_them=st.booleans(), who=st.sampled_from(["owner", "owner", "other"]))
    def confirm(self, which: int, all_of_them: bool, who: str) -> None:
        """What was enrolled has left; perhaps it is said of more than once."""
        batches = [b for b in self.both.world.batches.values() if b.unconfirmed]
        batch = batches[which % len(batches)]
        firsts = sorted(batch.unconfirmed) if all_of_them else [min(batch.unconfirmed)]
        self.both.confirm(batch.bid, firsts, who)
        self.confirmed.append((batch.bid, firsts))

    @precondition(lambda self: self.confirmed)
    @rule(which=SMALL)
    def confirm_again(self, which: int) -> None:
        bid, firsts = self.confirmed[which % len(self.confirmed)]
        if bid in self.both.world.batches:
            self.both.confirm(bid, firsts, "owner")

    @precondition(lambda self: any(b.awaited for b in self.both.world.batches.values()))
    @rule(
        which=SMALL, how=st.sampled_from(["nobody looks", "a sweeper dies", "it is swept", "all are swept"])
    )
    def lose_producers(self, which: int, how: str) -> None:
        batches = [b for b in self.both.world.batches.values() if b.awaited]
        for batch in batches if how == "all are swept" else [batches[which % len(batches)]]:
            self.both.lose_producers(batch.bid)
            if how == "a sweeper dies":
                self.both.abandon(batch.bid)
        if how.endswith("swept"):
            self.both.sweep()

    @precondition(lambda self: self.has_batches)
    @rule(which=SMALL, confirms=st.booleans())
    def seal(self, which: int, confirms: bool) -> None:
        batch = self.some(which)
        self.both.seal(batch.bid, sorted(batch.unconfirmed) if confirms else [])

    @precondition(lambda self: self.has_batches)
    @rule()
    def seal_all(self) -> None:
        for bid in list(self.both.world.batches):
            self.both.seal(bid)

    @precondition(lambda self: self.has_batches)
    @rule(which=SMALL, terminate=st.booleans(), really=SELDOM)
    def cancel(self, which: int, terminate: bool, really: bool) -> None:
        if really:
            self.both.cancel(self.some(which).bid, terminate=terminate)

    # -- reports --------------------------------------------------------------------------------

    @precondition(lambda self: self.unfinished())
    @rule(which=SMALL, state=ENDS, reason=REASONS, step=st.sampled_from([1, 1, 0]))
    def end_next(self, which: int, state: State, reason: str, step: int) -> None:
        """The next attempt of the present round ends, or the present one again."""
        places = self.unfinished()
        batch, index, member = places[which % len(places)]
        round_, attempt = member.stamp
        self.say(batch, index, state, round=round_, attempt=attempt + step or 1, reason=reason)

    @precondition(lambda self: self.members())
    @rule(which=SMALL, state=ENDS, round_=ROUNDS, attempt=st.integers(1, 3))
    def end_any(self, which: int, state: State, round_: int, attempt: int) -> None:
        """Some attempt of some round ends, early or late."""
        batch, index, _ = self.members()[which % len(self.members())]
        self.say(batch, index, state, round=round_, attempt=attempt)

    @precondition(lambda self: self.unfinished())
    @rule(which=SMALL, state=ENDS, reason=REASONS)
    def end_all(self, which: int, state: State, reason: str) -> None:
        """All that has not ended in a batch ends: else hardly a batch would."""
        batch = self.unfinished()[which % len(self.unfinished())][0]
        for index, member in enumerate(batch.members):
            if not member.is_batch and not member.ended:
                round_, attempt = member.stamp
                self.say(batch, index, state, round=round_, attempt=attempt + 1, reason=reason)

    @precondition(lambda self: self.unfinished())
    @rule(really=SELDOM)
    def all_succeed(self, really: bool) -> None:
        for batch, index, _ in self.unfinished() if really else ():
            self.say(batch, index, State.SUCCEEDED)

    @precondition(lambda self: self.reported)
    @rule(which=st.integers(0, 99))
    def report_again(self, which: int) -> None:
        self.both.report(*self.reported[-1 - which % len(self.reported)])

    @precondition(lambda self: self.members())
    @rule(which=SMALL, shift=st.integers(0, 3), state=ENDS, stolen=st.booleans())
    def forge(self, which: int, shift: int, state: State, stolen: bool) -> None:
        """Say a member's place and another's id, a member's id and another place, or one that nobody has."""
        batch, index, member = self.members()[which % len(self.members())]
        task_id, index = (member.task_id, index + shift) if stolen else (self.new_ids(1)[0], index)
        if index >= len(batch.members) or batch.members[index].task_id != task_id:
            assert (
                self.both.report(batch.bid, Report(index=index, task_id=task_id, state=state)) == "stranger"
            )

    # -- deliveries -----------------------------------------------------------------------------

    @precondition(lambda self: any(b.outbox for b in self.both.world.batches.values()))
    @rule(which=SMALL, happened=HAPPENED, step=st.integers(-1, 1), claim=st.sampled_from(CLAIMS))
    def settle(self, which: int, happened: str, step: int, claim: str) -> None:
        """An attempt ends: the present one, the next, one of before; or whichever is the present one.

        Who says so has the present claim, had an earlier one, or knows none.
        """
        entries = [(b, e) for b in self.both.world.batches.values() for e in b.outbox]
        batch, entry = entries[which % len(entries)]
        happened = "delivered" if entry == PARENT else happened
        attempt = max(batch.outbox[entry].attempts + step, int(happened == "postponed"))
        present = batch.outbox[entry].number if entry != PARENT else 0
        number = {"none": 0, "present": present, "earlier": max(present - 1, 0)}[claim]
        self.both.settle(batch.bid, entry, happened, attempt, number)

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

    @precondition(lambda self: any(b.outbox for b in self.both.world.batches.values()))
    @rule(which=SMALL, published=st.booleans(), ended=st.booleans())
    def redeliver(self, which: int, published: bool, ended: bool) -> None:
        """Ask for an event once more, whether its callbacks have left, are waiting, or neither."""
        batches = [b for b in self.both.world.batches.values() if b.outbox]
        batch = batches[which % len(batches)]
        event = list(batch.outbox)[which % len(batch.outbox)].partition(":")[0]
        if published and event != "parent":
            self.both.publish(
                batch.bid, [e for e, d in batch.outbox.items() if d.state == "due" and e != PARENT]
            )
        self.both.redeliver(batch.bid, "stall" if event == "parent" else event, ended=ended)

    # -- families -------------------------------------------------------------------------------

    @precondition(lambda self: self.children())
    @rule(which=SMALL)
    def report_child(self, which: int) -> None:
        child = self.children()[which % len(self.children())]
        self.both.publish(child.bid, [PARENT])

    @precondition(lambda self: self.children())
    @rule(which=SMALL)
    def read_child(self, which: int) -> None:
        self.read.append(self.both.read_report(self.children()[which % len(self.children())].bid))

    @precondition(lambda self: self.read)
    @rule(which=SMALL)
    def report_late(self, which: int) -> None:
        self.both.report_late(self.read[which % len(self.read)])

    @precondition(lambda self: self.parents())
    @rule(which=SMALL, really=SELDOM)
    def tell_half(self, which: int, really: bool) -> None:
        """A death somewhere below is told, and the process dies before it tells the rest."""
        if really:
            self.both.record_death(self.parents()[which % len(self.parents())].bid)

    # -- another round --------------------------------------------------------------------------

    @precondition(lambda self: any(b.count(State.DEAD) for b in self.both.world.batches.values()))
    @rule(which=SMALL, sent=st.sampled_from(["", "some", "all"]))
    def retry(self, which: int, sent: str) -> None:
        """Dead members are claimed; whoever does so may die before they are sent, or before that is noted."""
        dying = [b.bid for b in self.both.world.batches.values() if b.count(State.DEAD)]
        bid = dying[which % len(dying)]
        if claimed := self.both.claim_retries(bid):
            self.claimed.append((bid, claimed))
            if sent:
                self.both.confirm_retries(bid, claimed, done=sent == "all")

    @precondition(lambda self: self.claimed)
    @rule(which=SMALL, done=st.booleans())
    def confirm_late(self, which: int, done: bool) -> None:
        bid, claimed = self.claimed[which % len(self.claimed)]
        if bid in self.both.world.batches:
            self.both.confirm_retries(bid, claimed, done=done)

    # -- time, and the sweeper ------------------------------------------------------------------

    @rule(late=st.booleans(), arrived=st.booleans())
    def sweep(self, late: bool, arrived: bool) -> None:
        """Perhaps all leases are over by then, and all deliveries have arrived."""
        for batch in self.both.world.batches.values() if arrived else ():
            for entry, delivery in batch.outbox.items():
                if entry != PARENT and delivery.open:
                    self.both.settle(batch.bid, entry, "delivered", 0)
        if late:
            self.both.let_time_come()
        self.both.sweep()

    @precondition(lambda self: self.has_batches)
    @rule(which=SMALL, what=st.sampled_from(HOUSEKEEPING))
    def keep_house(self, which: int, what: str) -> None:
        bid = self.some(which).bid
        if what == "claim late":
            self.both.let_time_come()
        if what == "fall silent":
            self.both.fall_silent(bid)
        elif what == "be late":
            self.both.let_last_attempts_come(bid)
        elif what.startswith("claim"):
            self.both.claim_deliveries(bid)
        elif what == "retire":
            self.both.retire(which)
        elif what == "age":
            self.both.age(bid, AGED_MS)
        else:
            self.around.store.client.script_flush()

    @precondition(lambda self: len(self.both.world.batches) > 1)
    @rule(which=SMALL, deleted=st.booleans(), really=SELDOM)
    def remove(self, which: int, deleted: bool, really: bool) -> None:
        if really:
            self.both.remove(self.some(which).bid, deleted=deleted)
            self.both.refuse(self.both.gone[-1])

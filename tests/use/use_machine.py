"""The state machine: all uses of batches, in any order and from any context."""

from __future__ import annotations

import asyncio
from typing import Any

from celery import chain, group
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from celery_batches_notify import (
    Batch,
    NotAMember,
    UnserialisableCall,
    WouldDeadlock,
    outside_batch,
)
from celery_batches_notify.errors import BatchSealed
from celery_batches_notify.testing import drain
from tests.use.use_actors import can_start_a_loop
from tests.use.use_faults import STORE_STEPS
from tests.use.use_holder import Holder
from tests.use.use_items import Items
from tests.use.use_model import NotCollected, find_holder
from tests.use.use_stage import Held, Player
from tests.use.use_tasks import Tasks

SMALL = st.integers(0, 11)
APPS = st.sampled_from(["a", "a", "b"])
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "open": {"keep_open": True},
    "flushing": {"autoflush": 2},
    "open and flushing": {"keep_open": True, "autoflush": 3},
}
RAISES = [None, None, None, RuntimeError, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
BODIES = st.sampled_from(["", "", "call", "call another app", "leave open", "block", "add to own", "child"])
MEANWHILE = st.sampled_from(["", "", "seal elsewhere", "call", "add", "end block", "open block"])
SELDOM = st.integers(0, 3).map(lambda n: n == 1)


class Machine(Tasks):
    """The rules."""

    def somebody(self, which: int) -> Player:
        return self.players[which % len(self.players)]

    def some(self, which: int) -> Held:
        return self.held[which % len(self.held)]

    # -- who there is -------------------------------------------------------------------------

    @initialize(kinds=st.lists(st.sampled_from([*KINDS]), min_size=2, max_size=3))
    def begin(self, kinds: list[str]) -> None:
        for n, kind in enumerate(kinds):
            self.new_batch("b" if n == 1 else "a", **KINDS[kind])

    @precondition(lambda self: len(self.players) < 5)
    @rule(kind=st.sampled_from(["context", "thread", "task"]), which=SMALL, copies=st.booleans())
    def somebody_new(self, kind: str, which: int, copies: bool) -> None:
        self.new_player(kind, self.somebody(which) if copies else None)

    @precondition(lambda self: len(self.held) < 7)
    @rule(app=APPS, kind=st.sampled_from([*KINDS]))
    def create(self, app: str, kind: str) -> None:
        self.new_batch(app, **KINDS[kind])

    @precondition(lambda self: len(self.held) < 7)
    @rule(which=SMALL, kind=st.sampled_from(["plain", "open"]))
    def create_child(self, which: int, kind: str) -> None:
        parent = self.some(which)
        if parent.model.is_owner:
            self.new_batch(parent.model.batch.app, parent=parent, **KINDS[kind])

    @precondition(lambda self: len(self.held) < 7)
    @rule(which=SMALL)
    def find(self, which: int) -> None:
        """Hold another object of a batch, as another process does."""
        found = self.some(which).model.batch
        if found.stored == "yes":
            app = self.apps[found.app]
            self.hold(Batch.get(found.bid, app=app), Holder(found, is_owner=False))

    # -- blocks -------------------------------------------------------------------------------

    @rule(who=SMALL, which=SMALL, in_generator=st.booleans())
    def open_it(self, who: int, which: int, in_generator: bool) -> None:
        self.open_block(self.somebody(who), self.some(which), in_generator=in_generator)

    @precondition(lambda self: any(held.model.block for held in self.held))
    @rule(who=SMALL, which=SMALL, raises=st.sampled_from(RAISES))
    def end_it(self, who: int, which: int, raises: type[BaseException] | None) -> None:
        having = [held for held in self.held if held.model.block]
        self.end_block(self.somebody(who), having[which % len(having)], raises)

    @rule(who=SMALL, ends=st.booleans(), which=SMALL)
    def go_outside(self, who: int, ends: bool, which: int) -> None:
        if ends and self.outside:
            self.end_outside(self.somebody(who), which)
        elif len(self.outside) < 2:
            self.open_outside(self.somebody(who), outside_batch())

    # -- calls --------------------------------------------------------------------------------

    @rule(
        who=SMALL,
        app=APPS,
        how=st.sampled_from(["delay", "apply_async", "send_task", "signature"]),
        body=BODIES,
    )
    def make_a_call(self, who: int, app: str, how: str, body: str) -> None:
        self.make(self.somebody(who), self.new_call(app, body), how)

    @rule(who=SMALL, app=APPS, is_chain=st.booleans())
    def make_a_canvas(self, who: int, app: str, is_chain: bool) -> None:
        player, work = self.somebody(who), self.apps[app].tasks["work"]
        first = self.new_call(app)
        second = self.new_call(app, behind=first if is_chain else None)
        links = [work.si(call.id) for call in (first, second)]
        if is_chain:
            self.call(player, [first], lambda: chain(*links).delay())
        else:
            self.call(player, [first, second], lambda: group(links).delay())

    @rule(who=SMALL, app=APPS)
    def make_a_bad_call(self, who: int, app: str) -> None:
        """A call that cannot be sent is refused at once, in a block and outside."""
        work = self.apps[app].tasks["work"]
        self.refused(self.somebody(who), lambda: work.delay(object()), NotAMember)

    @rule(who=SMALL, app=APPS, body=BODIES)
    def run_a_task_here(self, who: int, app: str, body: str) -> None:
        call = self.new_call(app, body)
        self.act(self.somebody(who), lambda: self.apps[app].tasks["work"].apply(task_id=call.id))

    # -- add, map, seal, resume ---------------------------------------------------------------

    @rule(who=SMALL, which=SMALL, count=st.integers(0, 4))
    def add_some(self, who: int, which: int, count: int) -> None:
        held = self.some(which)
        self.add(self.somebody(who), held, [self.new_call(held.model.batch.app) for _ in range(count)])

    @rule(who=SMALL, which=SMALL, foreign=st.booleans())
    def add_what_cannot_be(self, who: int, which: int, foreign: bool) -> None:
        """None is sent if the first call could be sent and the second cannot."""
        held = self.some(which)
        app = held.model.batch.app
        work, other = self.apps[app].tasks["work"], self.apps["b" if app == "a" else "a"].tasks["work"]
        second = other.s() if foreign else work.s(object())
        first = work.s(self.new_call(app).id)
        errors = (NotAMember if foreign else UnserialisableCall, BatchSealed)
        self.refused(self.somebody(who), lambda: held.batch.add(first, second), *errors)

    @rule(
        who=SMALL,
        which=SMALL,
        count=st.integers(0, 8),
        raises_at=st.one_of(st.none(), st.integers(0, 8)),
        meanwhile=MEANWHILE,
        at=st.integers(0, 8),
        as_arguments=st.booleans(),
    )
    def map_some(
        self,
        who: int,
        which: int,
        count: int,
        raises_at: int | None,
        meanwhile: str,
        at: int,
        as_arguments: bool,
    ) -> None:
        held = self.some(which)
        calls = [self.new_call(held.model.batch.app) for _ in range(count)]
        happens = (at, lambda: self.happen(meanwhile, who + at, held)) if meanwhile else None
        items = Items(held.model, calls, raises_at, happens, as_arguments=as_arguments)
        self.map(self.somebody(who), held, items)

    def happen(self, what: str, who: int, held: Held) -> None:
        """Other steps happen while an iterable is read, inside or beside it."""
        player, model = self.acting[-1], held.model
        beside = self.somebody(who)
        if beside in self.acting or not can_start_a_loop():
            beside = player
        if what == "seal elsewhere" and model.batch.stored == "yes":
            elsewhere = Batch.get(model.batch.bid, app=held.batch.app)
            self.seal(beside, Held(elsewhere, Holder(model.batch, is_owner=False)))
        elif what == "call":
            self.make(player, self.new_call(model.batch.app))
        elif what == "add":
            self.add(beside, held, [self.new_call(model.batch.app)])
        elif what == "end block" and model.block is not None:
            self.end_block(beside, held)
        elif what == "open block":
            self.open_block(beside, held)

    @rule(who=SMALL, which=SMALL)
    def seal_it(self, who: int, which: int) -> None:
        self.seal(self.somebody(who), self.some(which))

    @precondition(lambda self: self.watch.successful)
    @rule(who=SMALL, which=SMALL)
    def redeliver(self, who: int, which: int) -> None:
        """A callback leaves once more, in whatever block `redeliver` is called."""
        ended = [held for held in self.held if held.model.batch.bid in self.watch.successful]
        batch = ended[which % len(ended)].batch
        callback = f"cb_{batch.bid}_success_0"
        before = len(self.watch.marks[callback])
        count, error = self.act(self.somebody(who), lambda: batch.redeliver("success"))
        self.watch.refresh(())
        refused = self.faults[self.batches[batch.bid].app].armed
        assert error is None and (refused or len(self.watch.marks[callback]) == before + count)

    @rule(who=SMALL, which=SMALL, broken=st.booleans())
    def resume_it(self, who: int, which: int, broken: bool) -> None:
        unfinished = [held for held in self.held if held.model.is_cut_short]
        held = unfinished[which % len(unfinished)] if broken and unfinished else self.some(which)
        self.resume(self.somebody(who), held)

    # -- what breaks --------------------------------------------------------------------------

    @precondition(lambda self: not any(faults.armed for faults in self.faults.values()))
    @rule(app=APPS, nth=st.integers(1, 4), lasting=st.booleans(), arrives=st.booleans())
    def break_the_broker(self, app: str, nth: int, lasting: bool, arrives: bool) -> None:
        self.faults[app].break_broker(nth, lasting=lasting, arrives=arrives)

    @precondition(lambda self: not any(faults.armed for faults in self.faults.values()))
    @rule(app=APPS, step=st.sampled_from(STORE_STEPS), nth=st.integers(1, 3), after=st.booleans())
    def break_the_store(self, app: str, step: str, nth: int, after: bool) -> None:
        self.faults[app].break_store(step, nth, after=after)

    @precondition(lambda self: any(faults.armed for faults in self.faults.values()))
    @rule()
    def mend_it(self) -> None:
        self.fix()

    # -- tasks --------------------------------------------------------------------------------

    @precondition(lambda self: not any(faults.armed for faults in self.faults.values()))
    @rule(who=SMALL, which=SMALL, really=SELDOM)
    def drain_it(self, who: int, which: int, really: bool) -> None:
        held, player = self.some(which), self.somebody(who)
        app = held.model.batch.app
        if not really or held.model.batch.stored != "yes":
            return
        try:
            waits = find_holder(player.around, app) is not None
        except NotCollected:
            waits = False
        waiting, before = self.surroundings.waiting(app), len(self.watch.ran)
        _, error = self.act(player, lambda: drain(held.batch), WouldDeadlock)
        assert isinstance(error, WouldDeadlock) == waits
        if not waits:
            assert self.surroundings.waiting(app) == []
            ran = self.watch.ran[before:]
            assert all(ran.count(message) >= waiting.count(message) for message in waiting)

"""One example: its actors, its faults, and the models of its calls and batches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant

from celery_batches_notify import Batch, EnqueueError, StoreUnavailable
from tests.use.use_actors import ACTORS, Actor
from tests.use.use_faults import BrokerAway, Faults
from tests.use.use_holder import Holder
from tests.use.use_model import Call, Fate, Frame, Stored
from tests.use.use_watch import Around, Watch

CUT_SHORT = (EnqueueError, StoreUnavailable, BrokerAway)


@dataclass(eq=False)
class Player:
    """An actor, and the blocks of its context, the innermost last."""

    actor: Actor
    around: list[Frame] = field(default_factory=list)


@dataclass(eq=False)
class Held:
    """A `Batch` object and its model; `way_out` is the generator that is suspended in its block."""

    batch: Batch
    model: Holder
    way_out: Generator[None] | None = None


class Stage(RuleBasedStateMachine):
    """A few batches, and the actors that fill them."""

    surroundings: Around

    def __init__(self) -> None:
        super().__init__()
        self.watch = Watch(self.surroundings)
        self.apps = self.surroundings.apps
        self.surroundings.running[:] = [self]
        self.faults = {name: Faults(app) for name, app in self.apps.items()}
        self.players = [Player(ACTORS["context"](Context()))]
        self.acting: list[Player] = []
        self.held: list[Held] = []
        self.batches: dict[str, Stored] = {}
        self.calls: list[Call] = []
        self.errors_in_tasks: list[BaseException] = []

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        self.watch.refresh(self.batches.values())
        self.watch.compare(self.calls, self.batches.values())

    def teardown(self) -> None:
        try:
            self.fix()
            if sys.exc_info()[0] is None:
                self.finish()
                self.check_the_end()
        finally:
            for player in self.players:
                player.actor.end()
            self.surroundings.forget()

    def fix(self) -> None:
        for faults in self.faults.values():
            faults.fix()

    def finish(self) -> None:
        """End open blocks, and resume interrupted batches."""

    def check_the_end(self) -> None:
        """Check that all calls are certain, all members have messages, and all callbacks are there."""
        self.watch.refresh(self.batches.values(), anew=True)
        self.watch.compare(self.calls, self.batches.values())
        assert not [held for held in self.held if held.model.is_cut_short]
        client, store = self.surroundings.client, self.surroundings.store
        for batch in self.batches.values():
            assert list(store.walk_unconfirmed(batch.bid)) == [], "the sweeper would write some off"
            left_to_the_sweeper = {"send", "seal_batch"} & {*self.faults[batch.app].hits}
            if batch.bid in self.watch.successful and not left_to_the_sweeper:
                assert self.watch.marks.get(f"cb_{batch.bid}_success_0"), "its callback is lost"
        for key in client.scan_iter("batches*"):
            assert client.ttl(key) != -1, f"{key} has no time to live"

    # -- acting -------------------------------------------------------------------------------

    def act(
        self, player: Player, step: Callable[[], Any], *expected: type[BaseException]
    ) -> tuple[Any, BaseException | None]:
        """Let a player take a step; return its result, or its error, which a fault must explain."""
        before = self._count_hits()
        inside = bool(self.acting) and self.acting[-1] is player
        self.acting.append(player)
        result, error = None, None
        try:
            result = step() if inside else player.actor.run(step)
        except (*CUT_SHORT, *expected) as exc:
            error = exc
        finally:
            self.acting.pop()
            if self.errors_in_tasks:
                raise self.errors_in_tasks.pop()
        broken = self._count_hits() > before
        assert broken or not isinstance(error, CUT_SHORT), f"nothing was broken: {error!r}"
        if isinstance(error, EnqueueError):
            self._compare_error(error)
        return result, error

    def _count_hits(self) -> int:
        return sum(len(faults.hits) for faults in self.faults.values())

    def _compare_error(self, error: EnqueueError) -> None:
        """Check what an `EnqueueError` says of each call. An unknown one may leave once more."""
        self.watch.refresh(())
        for call in self.calls:
            left = len(self.watch.marks.get(call.id, ()))
            if call.id in error.unknown:
                call.unknown += 1
            elif call.id in error.sent:
                assert left, f"the error says that it was sent: {call}"
            elif call.id in error.unsent:
                assert left <= call.unknown, f"the error says that it was not sent: {call}"

    def left(self, calls: Iterable[Call]) -> set[Call]:
        """Return the calls whose messages are at the broker."""
        self.watch.refresh(())
        return {call for call in calls if self.watch.marks.get(call.id)}

    # -- who and what there is ----------------------------------------------------------------

    def new_player(self, kind: str, parent: Player | None) -> Player:
        """Return a player with an empty context, like a thread, or a copy of another's, like a task."""
        context = parent.actor.run(copy_context) if parent else Context()
        player = Player(ACTORS[kind](context), list(parent.around) if parent else [])
        self.players.append(player)
        return player

    def new_call(self, app: str, body: str = "", behind: Call | None = None) -> Call:
        """Return a call that is not made yet, with its number in its id."""
        task_id = f"{len(self.calls):08x}-0000-4000-8000-000000000000"
        self.calls.append(Call(task_id, app, fate=Fate.NEVER, body=body, behind=behind))
        return self.calls[-1]

    def new_batch(self, app: str, *, parent: Held | None = None, **options: Any) -> Held:
        family = {"parent": parent.batch} if parent else {}
        batch = Batch(app=self.apps[app], **options, **family)
        batch.on("success", self.apps[app].tasks["told"].si())
        stored = Stored(batch.bid, app, keep_open=options.get("keep_open", False))
        stored.parent = parent.model.batch if parent else None
        self.batches[batch.bid] = stored
        return self.hold(batch, Holder(stored, autoflush=options.get("autoflush")))

    def hold(self, batch: Batch, model: Holder) -> Held:
        self.held.append(Held(batch, model))
        return self.held[-1]

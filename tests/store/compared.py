"""Comparing all of a store with a model of it, after every step."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from celery import Celery
from kombu.utils import json

from celery_batches_notify import Batch
from celery_batches_notify.delivery.publisher import Publisher
from celery_batches_notify.membership import Outcome, State
from celery_batches_notify.model import BatchStatus, Failure
from celery_batches_notify.recovery.sweeper import Sweeper
from celery_batches_notify.store.parsing import Snapshot, parse_progress, parse_status
from celery_batches_notify.store.store import Store
from tests.store.invariants import broken
from tests.store.model_of_batches import ModelBatch
from tests.store.model_of_families import World
from tests.store.model_of_members import Report
from tests.store.whole_store import LIVES, Ear, Held, WatchingClient, differences, snapshot_of

CALL = '{"id": "%s", "task": "told", "args": [], "kwargs": {}, "options": {}}'
FAILURE = Failure(task_id="x", task="t", error_class="E", error_message="no", backtrace=None, retries=0)
# What batches are declared with: callbacks by event, each with its threshold.
KINDS: tuple[dict[str, tuple[float, ...]], ...] = (
    {},
    dict.fromkeys(("cancel", "death", "complete", "finish", "success"), (0,)),
    {"progress": (0.5, 1), "finish": (0, 0)},
)

_numbers = itertools.count()


def new_bid() -> str:
    return f"machine-{next(_numbers):08d}"


@dataclass(frozen=True)
class Surroundings:
    """What all examples share: one app with its store and its sweeper, and a reader of the whole store."""

    app: Celery
    client: WatchingClient
    ear: Ear

    @property
    def store(self) -> Store:
        return self.app._batches_extension.engine.store

    @property
    def publisher(self) -> Publisher:
        return self.app._batches_extension.engine.publisher

    @property
    def sweeper(self) -> Sweeper:
        return self.app._batches_extension.engine.sweeper

    @cache  # noqa: B019 - one for all tests
    def declare(self, kind: int) -> dict[str, Any]:
        """The fields of a batch with callbacks of this kind."""
        batch = Batch(app=self.app)
        for event, thresholds in KINDS[kind].items():
            for share in thresholds:
                batch.on(event, self.app.tasks["told"].s(), **({"at": share} if event == "progress" else {}))
        counts = {f"callbacks:{event}": len(thresholds) for event, thresholds in KINDS[kind].items()}
        shares = {f"at:{c['event']}:{c['n']}": c["at"] for c in batch._declaration._callbacks if "at" in c}
        lives = {"expires": LIVES["running"], "linger": LIVES["success"], "dead_expires": LIVES["dead"]}
        lives["abandon_after"] = 3_600_000
        return {**lives, **counts, **shares, "declared": json.dumps(batch._declaration._callbacks)}


@dataclass
class Compared:
    """The batches of one example, in the model and as the store last held them."""

    around: Surroundings
    world: World = field(default_factory=World)
    gone: list[str] = field(default_factory=list)
    held: dict[str, Held] = field(default_factory=dict)
    heard: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return self.around.store

    def touch(self, bid: str) -> str:
        """Do something to this batch: from here on it is among those that are read."""
        self.around.client.bids = [*self.world.batches, *self.gone[-3:]]
        return bid

    def compare(self) -> None:
        """Hold the store against the invariants after each script, and against the model after the last."""
        readings = self.around.client.read()
        changed = {bid for found in readings for bid in found if found[bid] != self.held.get(bid)}
        for found in readings:
            for bid, tokens in self.around.ear.hear().items():
                self.heard[bid] = self.heard.get(bid, "") + tokens
            for bid in changed & found.keys() & self.world.batches.keys():
                self._check_invariants(bid, found[bid])
            self.held = found
        assert self.held.keys() >= self.world.batches.keys()
        for bid, held in self.held.items():
            if bid in self.world.batches:
                self._compare_batch(self.world.batches[bid], held, changed=bid in changed)
            else:
                assert held["ttls"] == "", f"I-14: {bid} is gone, and has keys"

    def _check_invariants(self, bid: str, held: Held) -> None:
        before = self.held.get(bid)
        if held["ttls"] and held != before:
            failed = broken(before, held, self.heard.get(bid, ""))
            assert not failed, f"{bid}: {failed} broken by {held}, before: {before}"

    def _compare_batch(self, batch: ModelBatch, held: Held, *, changed: bool) -> None:
        bid = batch.bid
        wrong = differences(batch, held, live=bid in self.world.live, listed=bid in self.world.listed)
        assert not wrong, f"{bid}: the store holds, and should hold: {wrong}"
        heard = self.heard.get(bid, "")
        assert heard == batch.tokens, f"I-12: {bid}: {heard} was heard, not {batch.tokens}"
        if changed:
            self._compare_status(batch, snapshot_of(bid, held))

    def compare_readings(self) -> None:
        """Hold what the store's own readers say against the model."""
        for batch in self.world.batches.values():
            self._compare_status(batch, self.store.read_snapshot(batch.bid))

    def _compare_status(self, batch: ModelBatch, snapshot: Snapshot) -> None:
        stall_after = self.store.settings.stall_after
        status = parse_status(snapshot, stall_after)
        progress = parse_progress(batch.bid, snapshot.batch, snapshot.now, stall_after)
        assert counts_of(status) == counts_of(progress) == expected_counts(batch)
        assert status.total == status.succeeded + status.pending
        assert progress.finished == ("finish" in batch.fired)
        for event, at in events_of(status).items():
            assert (at is not None) == (event in batch.fired), event
        assert [(f"{c.event}:{c.n}", c.state, c.attempts) for c in status.callbacks] == callbacks_of(batch)
        assert (status.parent_bid, status.unsendable) == (batch.parent, batch.unsendable)
        assert (status.abandoned_at is not None, status.cut_short) == (batch.abandoned, batch.cut_short)


def counts_of(reading: Any) -> tuple[str, int, int, int, int, int]:
    r = reading
    return r.state, r.total, r.pending, r.succeeded, r.failures, r.dead


def expected_counts(batch: ModelBatch) -> tuple[str, int, int, int, int, int]:
    total, succeeded, dead = len(batch.members), batch.count(State.SUCCEEDED), batch.count(State.DEAD)
    failures = batch.count(State.FAILING) + dead
    return batch.state, total, total - succeeded, succeeded, failures, dead


def events_of(status: BatchStatus) -> dict[str, datetime | None]:
    at = {event: getattr(status, f"{event}_at") for event in ("death", "complete", "finish", "success")}
    return at | {"cancel": status.cancelled_at}


def callbacks_of(batch: ModelBatch) -> list[tuple[str, str, int]]:
    entries = [f"{event}:{n}" for event, each in batch.callbacks.items() for n in range(len(each))]
    deliveries = [(entry, batch.outbox.get(entry)) for entry in entries]
    return [(entry, d.state if d else "waiting", d.attempts if d else 0) for entry, d in deliveries]


def outcome_of(report: Report) -> Outcome:
    """The outcome that this report is in the package's words."""
    if report.state is State.SUCCEEDED:
        return Outcome(state=State.SUCCEEDED)
    resend = CALL % report.task_id if report.sendable and report.state is State.DEAD else ""
    return Outcome(
        state=report.state,
        attempt=report.attempt,
        reason=report.reason,
        failure=FAILURE,
        resend=resend,
        unsendable="not JSON",
    )

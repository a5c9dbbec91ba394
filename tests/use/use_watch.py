"""Compares the model with all messages that reached the broker, and with the members in the store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu.transport.memory import Channel
from redis import Redis

from celery_batches_notify.errors import NoSuchBatch
from celery_batches_notify.store.store import Store
from tests.use.use_model import Call, Fate, Stored

Mark = dict[str, Any] | None


@dataclass(frozen=True)
class Around:
    """Two apps, one store and the bodies of their tasks, shared by all examples."""

    apps: dict[str, Celery]
    client: Redis
    running: list[Any]  # the example that runs

    @property
    def store(self) -> Store:
        return next(iter(self.apps.values()))._batches_extension.engine.store

    def waiting(self, app: str) -> list[tuple[str, Mark]]:
        """Return the ids and headers of the messages in an app's queue, without taking them."""
        queue = Channel.queues.get(self.apps[app].conf.task_default_queue)
        messages = [message["headers"] for message in queue.queue] if queue else []
        return [(headers["id"], headers.get("batches")) for headers in messages]

    def forget(self) -> None:
        """Empty the queues and the store."""
        for app in self.apps.values():
            if queue := Channel.queues.get(app.conf.task_default_queue):
                queue.queue.clear()
        self.client.flushall()


class Watch:
    """Everything that happened at the broker and in the store."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self.ran: list[tuple[str, Mark]] = []  # taken from the broker and run, callbacks too
        self.places: dict[str, dict[str, int]] = {}
        self.marks: dict[str, list[Mark]] = {}
        self.successful: set[str] = set()
        self._read_as: dict[str, object] = {}

    def refresh(self, batches: Iterable[Stored], *, anew: bool = False) -> None:
        """Read the broker, and those of these batches that were used, or all."""
        self.marks = defaultdict(list)
        for task_id, mark in self.ran:
            self.marks[task_id].append(mark)
        for app in self._around.apps:
            for task_id, mark in self._around.waiting(app):
                self.marks[task_id].append(mark)
        for batch in batches:
            if (
                anew
                or "maybe" in (batch.stored, batch.sealed)
                or self._appearance(batch) != self._read_as.get(batch.bid)
            ):
                self._read(batch)
                self._read_as[batch.bid] = self._appearance(batch)

    def _appearance(self, batch: Stored) -> object:
        """Return a batch as the model and the broker show it."""
        calls = tuple((call.fate, len(self.marks.get(call.id, ()))) for call in batch.calls)
        return batch.stored, batch.sealed, len(batch.children), len(batch.perhaps), len(self.ran), calls

    def _read(self, batch: Stored) -> None:
        store = self._around.store
        try:
            status = store.read_status(batch.bid)
        except NoSuchBatch:
            self.places.pop(batch.bid, None)
            self._learn(batch, stored=False, sealed=False)
            assert not self._around.client.keys(f"batches:{{{batch.bid}}}*"), "it left keys behind"
            return
        self._learn(batch, stored=True, sealed=bool(status.sealed_at))
        members = [m for chunk in store.walk_members(batch.bid, status.total) for m in chunk]
        self.places[batch.bid] = {m.id: m.index for m in members}
        assert len(self.places[batch.bid]) == status.total == len(members), "a member stands there twice"
        if status.state == "success":
            self.successful.add(batch.bid)

    def _learn(self, batch: Stored, *, stored: bool, sealed: bool) -> None:
        """Settle what was uncertain after a failure, and check everything else."""
        if batch.stored == "maybe" or (batch.was_discarded and stored):
            batch.stored = "no"
            if stored:
                batch.be_stored()
        if batch.sealed == "maybe":
            batch.sealed, batch.sealed_by = ("yes", batch.sealed_by) if sealed else ("no", None)
        assert stored == (batch.stored == "yes"), f"{batch} {stored=}"
        assert sealed == (batch.sealed == "yes"), f"{batch} {sealed=}"

    # -- comparing ----------------------------------------------------------------------------

    def compare(self, calls: Iterable[Call], batches: Iterable[Stored]) -> None:
        """Check that every call is a member of the right batch only, and that every message left once."""
        calls = {call.id: call for call in calls}
        ran = Counter(task_id for task_id, _ in self.ran)
        for task_id, marks in self.marks.items():
            if task_id.startswith("cb_"):
                assert all("delivery" in (mark or ()) for mark in marks), f"a callback is a member: {marks}"
            else:
                assert task_id in calls, f"nobody called {task_id}"
        for call in calls.values():
            if call.behind is not None:
                call.batch = call.behind.batch
                call.fate = Fate.OUT if ran[call.behind.id] else Fate.NEVER
                self._compare_call(call, at_most=ran[call.behind.id])
            else:
                self._compare_call(call, at_most=1 + call.unknown)
        for batch in batches:
            if batch.stored == "yes":
                self._compare_batch(batch, [call for call in calls.values() if call.batch is batch])

    def _compare_call(self, call: Call, *, at_most: int) -> None:
        marks = self.marks.get(call.id, [])
        place = self.places.get(call.batch.bid, {}).get(call.id) if call.batch else None
        about = f"{call}\nits messages: {marks}, its place: {place}"
        assert len(marks) <= at_most, f"it left too often: {about}"
        for mark in marks:
            assert is_its(mark, call, place), f"it left as another's member: {about}"
        if call.fate is Fate.OUT:
            assert marks, f"it has not left: {about}"
        elif call.fate in (Fate.WAITING, Fate.NEVER):
            assert not marks and place is None, f"it was not to leave: {about}"
        elif call.fate is Fate.EITHER and call.batch is not None:
            assert bool(marks) == (place is not None), f"a member waits for a message never sent: {about}"

    def _compare_batch(self, batch: Stored, calls: list[Call]) -> None:
        members = self.places[batch.bid].keys()
        strangers = members - {call.id for call in calls} - batch.children - batch.perhaps
        assert not strangers, f"{batch.bid} has members that were not called in it: {strangers}"
        assert batch.children <= members, f"{batch.bid} lacks children"
        if batch.sealed == "yes":
            doubt = {call.id for call in calls if call.fate is Fate.DOUBT}
            silent = {call.id for call in calls if call.id in members and not self.marks.get(call.id)}
            assert silent <= doubt, f"{batch.bid} is sealed and waits for messages never sent: {silent}"


def is_its(mark: Mark, call: Call, place: int | None) -> bool:
    """Return whether a message names the batch of its call, and its index there."""
    if call.batch is None:
        return mark is None
    if mark is None or place is None or mark["bid"] != call.batch.bid:
        return False
    return mark.get("index") == place or (call.behind is not None and mark.get("late") is True)

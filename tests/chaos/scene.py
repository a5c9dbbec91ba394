"""One scenario: its store, broker, workers and batches, what is done to them, and the verdict at the end."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import pools

from celery_batches_notify import Batch
from celery_batches_notify.errors import BatchesError
from tests.chaos.broker_view import RedisBroker
from tests.chaos.fleet import Fleet
from tests.chaos.journal import JOURNAL, Journal
from tests.chaos.ledger import Asked, Ledger, write_ledger
from tests.chaos.listener import Listener
from tests.chaos.storm import Fault, Storm
from tests.projects.chaos_proj import make_app
from tests.support.away import spooled
from tests.support.servers import PATIENT, close_store

EVENTS = ("death", "complete", "finish", "success")
SHOWN_FAULTS = SHOWN_LEDGERS = 25
QUIET_LOOKS, LOOK_SECONDS = 20, 0.3  # looks, not a time: a machine that stands still is not quiet
REDIS_BROKER = {
    "visibility_timeout": 5,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
    "unacked_mutex_expire": 3,  # a killed worker may hold it
}
CONF: dict[str, Any] = {
    "result_backend": None,
    "batches_sweep_interval": 1,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 4,
    # With it kombu 5.7 over Redis ends a worker that loses its broker, by an AttributeError of its own.
    "worker_enable_remote_control": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
}


def is_full() -> bool:
    """Whether the big sizes are asked for, those for the night."""
    return os.environ.get("BATCHES_CHAOS_SCALE") == "full"


class Scene:
    """What one scenario works with. What happens is in `journal`; `verdict` compares it with the store."""

    def __init__(self, directory: Path, store: str, broker: str, draw: random.Random, **conf: Any) -> None:
        self.draw = draw
        self.journal = Journal(directory / "journal")
        os.environ[JOURNAL] = str(self.journal.path)
        transport = REDIS_BROKER if broker.startswith("redis") else {"confirm_publish": True}
        queue = f"chaos-{uuid4().hex[:8]}"
        self.conf = {
            **CONF,
            "batches_backend_url": store,
            "broker_url": broker,
            "broker_transport_options": transport,
            "task_default_queue": queue,
            "batches_spool_dir": str(directory / "spool"),
            **conf,
        }
        self.app: Celery = make_app({**self.conf, "batches_backend_options": PATIENT})
        self.fleet = Fleet(directory, self.conf, self.journal)
        self.broker = RedisBroker(broker, queue) if broker.startswith("redis") else None
        self.listener: Listener | None = None
        self.asked: list[Asked] = []
        self.storms: list[Storm] = []

    def batch(
        self, kinds: Sequence[str], seconds: Callable[[], float] = lambda: 0.0, **options: Any
    ) -> Batch:
        """Publish a batch whose members end as they are told: `ok`, `retry` (and then ok), or `die`."""
        batch = self.declare(**options)
        members = {}
        with batch:
            for kind in kinds:
                members[self.call(batch, kind, seconds()).id] = kind
        self.expect(batch, members)
        return batch

    def declare(self, **options: Any) -> Batch:
        """Make a batch with a callback on each event."""
        batch = Batch(app=self.app, **options)
        for event in EVENTS:
            batch.on(event, self.app.tasks["chaos.told"].s(event))
        return batch

    def call(self, batch: Batch, kind: str, seconds: float = 0) -> Any:
        """Call one member."""
        arguments = {"failures": int(kind == "retry"), "dies": kind == "die"}
        return self.app.tasks["chaos.member"].delay(batch.bid, seconds, **arguments)

    def expect(self, batch: Batch, members: Mapping[str, str]) -> None:
        """Note what was asked for, for the verdict."""
        self.asked.append(Asked(bid=batch.bid, members=members, events=EVENTS))

    @contextmanager
    def storm(self, faults: Mapping[str, Fault], *, every_seconds: float) -> Iterator[Storm]:
        """Let these faults happen as the seed says."""
        storm = Storm(faults, every_seconds=every_seconds, draw=self.draw)
        self.storms.append(storm)
        with storm:
            yield storm

    def kills(self) -> dict[str, Fault]:
        """For each worker, the fault that kills it and starts it again."""

        def kill(worker: Any) -> None:
            worker.kill()
            worker.start()

        return {f"kill -9 {worker.name}": (lambda w=worker: kill(w)) for worker in self.fleet.workers}

    def count(self, kind: str, *words: str) -> int:
        """How often something happened so far."""
        return sum(e.kind == kind and list(e.words[: len(words)]) == [*words] for e in self.journal.read())

    def wait(self, seconds: float) -> None:
        """Wait until every batch has finished and everybody was told; the verdict says who has not."""
        deadline = time.monotonic() + seconds
        open_ = [Batch.get(asked.bid, app=self.app) for asked in self.asked]
        quiet = 0
        while open_ and quiet < QUIET_LOOKS and time.monotonic() < deadline:
            open_ = [batch for batch in open_ if not _is_over(batch)]
            quiet = 0 if self._may_move(open_) else quiet + 1
            time.sleep(LOOK_SECONDS)

    def _may_move(self, open_: Sequence[Batch]) -> bool:
        """Whether there is a message, an outcome on the disk, a worker's mark, or a callback that is due."""
        if self.broker is None or self.broker.held_ids() or spooled(Path(self.conf["batches_spool_dir"])):
            return True
        try:
            workers = self.app._batches_extension.engine.store.read_workers()
            return any(marks for *_, marks in workers) or any(map(_has_due, open_))
        except BatchesError:
            return True

    def vanished(self, ledgers: Sequence[Ledger]) -> frozenset[str]:
        """The messages that a killed worker took along, so that nobody can do what they asked for."""
        if self.broker is None:
            return frozenset()
        missing = {id_ for ledger in ledgers for id_ in ledger.unended()} - self.broker.held_ids()
        deaths = self.fleet.deaths
        assert len(missing) <= deaths, f"{len(missing)} messages are gone, after {deaths} deaths: {missing}"
        return frozenset(missing)

    def ledgers(self) -> list[Ledger]:
        """Write the ledger of every batch."""
        entries = self.journal.read()
        by_bid: dict[str, list[Any]] = {}
        for entry in entries:
            by_bid.setdefault(entry.bid, []).append(entry)
        return [self._ledger(asked, by_bid.get(asked.bid, [])) for asked in self.asked]

    def verdict(self, *, may_lose: bool = False) -> list[Ledger]:
        """Print faults and ledgers; fail where anything is lost, double or early."""
        ledgers = self.ledgers()
        heard_all = self.listener is not None and self.listener.gaps == 0
        for storm in self.storms:
            print(f"{len(storm.log)} faults:", *storm.log[:SHOWN_FAULTS], sep="\n  ")
        vanished = self.vanished(ledgers)
        print(f"{len(vanished)} messages that the broker had let go when their worker was killed", *vanished)
        wrong = [
            fault
            for ledger in ledgers
            for fault in ledger.faults(may_lose=may_lose, heard_all=heard_all, vanished=vanished)
        ]
        print(
            f"{len(ledgers)} batches:", *(ledger.summary() for ledger in ledgers[:SHOWN_LEDGERS]), sep="\n  "
        )
        if wrong:
            pytest.fail("\n".join(wrong[:200]), pytrace=False)
        return ledgers

    def _ledger(self, asked: Asked, entries: list[Any]) -> Ledger:
        store = self.app._batches_extension.engine.store
        status = store.read_status(asked.bid)
        states = {m.id: m.state for chunk in store.walk_members(asked.bid, status.total) for m in chunk}
        return write_ledger(asked, status, states, entries)


def _has_due(batch: Batch) -> bool:
    try:
        return any(c.state == "due" for c in batch.status().callbacks)
    except BatchesError:
        return True


def _is_over(batch: Batch) -> bool:
    try:
        status = batch.status()
    except BatchesError:
        return False
    return status.finish_at is not None and not any(c.state in ("due", "published") for c in status.callbacks)


@contextmanager
def scene(directory: Path, store: str, broker: str, draw: random.Random, **conf: Any) -> Iterator[Scene]:
    """Set a scene; at the end nothing of it is left."""
    with ExitStack() as stack:
        made = Scene(directory, store, broker, draw, **conf)
        stack.callback(_strike, made)
        made.listener = stack.enter_context(Listener(store, made.journal))
        yield made


def _strike(made: Scene) -> None:
    made.fleet.close()
    if made.broker is not None:
        made.broker.close()
    else:
        with made.app.connection_for_write() as connection:
            connection.default_channel.queue_delete(made.conf["task_default_queue"])
    made.app.close()
    pools.reset()  # kombu's are the process's, and another scene may have the same broker
    close_store(made.app)

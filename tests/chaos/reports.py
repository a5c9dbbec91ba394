"""Members that threads of this process report through the product's own reporter, without any worker."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from celery import Celery

from celery_batches_notify import Batch
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import Failure
from tests.projects.chaos_proj import make_app
from tests.support.away import spooled
from tests.support.servers import close_store, wait_until, waiting_messages

EVENTS = ("death", "complete", "finish", "success")
FAILURE = Failure(task_id="t", task="t", error_class="E", error_message="", backtrace=None, retries=0)
SUCCEEDED = Outcome(state=State.SUCCEEDED)
FAILING = Outcome(state=State.FAILING, attempt=1, failure=FAILURE)
DEAD = Outcome(state=State.DEAD, attempt=2, reason="failed", failure=FAILURE)
PATIENCE_SECONDS = 60.0

Report = tuple[Membership, Outcome]


@contextmanager
def app_at(store_url: str, **conf: Any) -> Iterator[Celery]:
    """An app whose store is there, and whose messages stay in this process."""
    with TemporaryDirectory() as spool:
        conf = {"task_default_queue": uuid4().hex, "batches_backend_url": store_url, **conf}
        conf = {"result_backend": None, **conf, "broker_url": "memory://", "batches_spool_dir": spool}
        app = make_app(conf)
        try:
            yield app
        finally:
            app._batches_extension.engine.outgoing.flush(10)
            if app.conf.result_backend:
                app.backend.result_consumer.stop()
                app.backend.client.close()
            app.close()
            close_store(app)


def open_batch(app: Celery, members: int, *, keep_open: bool = False) -> tuple[Batch, list[Membership]]:
    """A batch with a callback on each event, and its members."""
    batch = Batch(app=app, keep_open=keep_open)
    for event in EVENTS:
        batch.on(event, app.tasks["chaos.told"].s(event))
    results = batch.add(*(app.tasks["chaos.member"].s(batch.bid) for _ in range(members)))
    return batch, [Membership(bid=batch.bid, index=n, task_id=r.id) for n, r in enumerate(results)]


def runs_of(member: Membership, draw: random.Random, *, dies: float = 0.0) -> list[Report]:
    """What is told of one member: it may fail first, and what is told may be told again."""
    end = DEAD if draw.random() < dies else SUCCEEDED
    first = [FAILING] if end is DEAD or draw.random() < 0.1 else []
    told = [(member, outcome) for outcome in (*first, end)]
    return [report for report in told for _ in range(1 + (draw.random() < 0.1))]


def report_all(app: Celery, runs: Sequence[Sequence[Report]], *, threads: int = 8) -> None:
    """Report it all: each member's reports in their order, the members at the same time.

    What went to the spool meanwhile is told as a worker's main process tells it.
    """
    engine = app._batches_extension.engine

    def one(reports: Sequence[Report]) -> None:
        for member, outcome in reports:
            engine.reporter.report(member, outcome, seconds=PATIENCE_SECONDS)

    def is_told() -> bool:
        engine.replay.replay()
        return not spooled(Path(app.conf.batches_spool_dir))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, runs))
    wait_until(is_told, seconds=PATIENCE_SECONDS, what="the end of the spool")


def store_results(app: Celery, runs: Sequence[Sequence[Report]]) -> None:
    """Give the result backend what workers would have given it."""
    for reports in runs:
        member, outcome = reports[-1]
        if outcome.state is State.SUCCEEDED:
            app.backend.mark_as_done(member.task_id, None)
        else:
            app.backend.mark_as_failure(member.task_id, ValueError("as it was told to"))


def called_ids(app: Celery) -> list[str]:
    """The ids of all callbacks that were published so far, in their order; they are taken off the queue."""
    app._batches_extension.engine.outgoing.flush(10)
    ids = [message.headers["id"] for message in waiting_messages(app)]
    return [task_id for task_id in ids if task_id.startswith("cb_")]


def states_of(app: Celery, bid: str) -> list[State]:
    """The states of all members, as they stand in the store."""
    store = app._batches_extension.engine.store
    total = store.read_status(bid).total
    return [member.state for chunk in store.walk_members(bid, total) for member in chunk]

"""Drain a batch: run it to its end in the test's own process, without waiting for time to pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

from celery import Celery, current_app

from celery_batches_notify.batch import Batch
from celery_batches_notify.engine import find_extension
from celery_batches_notify.errors import WouldDeadlock
from celery_batches_notify.extension import Batches
from celery_batches_notify.messages.block import find_frame
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.store.store import Store
from celery_batches_notify.testing.inline_worker import InlineWorker


def drain(batch: Batch, timeout: float | timedelta = 30.0) -> BatchStatus:
    """Run everything in the app's broker in this process, until it is empty; return the batch's status.

    Members, retries, callbacks and notifications run one after the other, as in a worker with the pool
    `solo`. Tasks with an ETA do not wait for it: they run last, the earliest first. At the end, `drain`
    sweeps the batch and its family once. A notification that failed stays due.

    Args:
        batch: The batch. Other messages in the app's queues run too.
        timeout: Seconds or a `timedelta` until `drain` gives up. It does not interrupt a task.

    Raises:
        BatchTimeout: Messages are left after the timeout, for instance because a task calls itself.
        ConfigurationError: The broker is not `memory://`; a test must not run other people's messages.
        WouldDeadlock: Called inside a `with batch:` block, which has not sent its calls yet.
        NoSuchBatch: The batch is not stored, or was deleted meanwhile.
    """
    app = batch.app
    if find_frame(app) is not None:
        raise WouldDeadlock(
            "drain() inside a `with batch:` block would find no calls: the block sends them at its end; "
            "call it after the block"
        )
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    extension = find_extension(app)
    if app.conf.task_always_eager:
        sweep(extension, batch.bid)
        return batch.status()
    with _current(app), InlineWorker(extension, seconds) as worker:
        worker.run()
        sweep(extension, batch.bid)
        worker.run()
    return batch.status()


def sweep(extension: Batches, bid: str) -> None:
    """Sweep a batch and its family once: publish what is due by now."""
    engine = extension.engine
    family = set(_walk_family(engine.store, bid))
    for live in engine.store.walk_live():
        if live.bid in family:
            engine.sweeper.sweep_batch(live)


def _walk_family(store: Store, bid: str) -> Iterator[str]:
    """Yield the ids of a batch, its descendants and its ancestors."""
    yield from store.walk_family(bid)
    yield from store.walk_ancestors(bid)


@contextmanager
def _current(app: Celery) -> Iterator[None]:
    before = cast("Any", current_app)._get_current_object()
    app.set_current()
    try:
        yield
    finally:
        before.set_current()

"""Members of a cancelled batch are discarded one by one; the user's revoked tasks stay revoked."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.concurrency.solo import TaskPool
from celery.exceptions import TaskRevokedError
from celery.worker import state as worker_state
from celery.worker.request import Request, create_request_cls

from celery_batches_notify import Batch
from celery_batches_notify.worker.cancellation import Cancellation
from tests.support.servers import waiting_messages

MEMBERS = 3


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()
    app.task(run, name="run", shared=False)
    return app


def run() -> None:
    """Be a member."""


def requests_of(app: Celery, pool: TaskPool) -> list[Request]:
    """Return the requests that a worker makes of the messages at the broker."""
    return [make_request(app, pool, message) for message in waiting_messages(app)]


def make_request(app: Celery, pool: TaskPool, message: object) -> Request:
    task = app.tasks["run"]
    kind = create_request_cls(Request, task, pool, "here", None, app=app)
    return kind(message, app=app, task=task, hostname="here")


def cancelled(app: Celery) -> Batch:
    batch = Batch(app=app)
    batch.add(*(app.tasks["run"].s() for _ in range(MEMBERS)))
    batch.cancel()
    return batch


@pytest.mark.parametrize("held", [True, False], ids=["held before", "arriving after"])
def test_a_cancelled_member_does_not_run_and_celerys_revoked_set_stays_the_users(
    app: Celery, held: bool
) -> None:
    pool = TaskPool(app=app)
    cancellation: Cancellation = app._batches_extension.engine.cancellation
    batch = cancelled(app)
    requests = requests_of(app, pool)
    before = set(worker_state.revoked)
    if held:
        for request in requests:
            cancellation._received.add(request)
        cancellation.read()
    else:
        cancellation.read()
        for request in requests:
            cancellation.discard(request)
    for request in requests:
        with pytest.raises(TaskRevokedError):
            request.execute_using_pool(pool)
        assert request.revoked()
    assert set(worker_state.revoked) == before
    status = batch.status()
    assert (status.dead, status.succeeded, status.death_at) == (MEMBERS, 0, None)
    assert {failure.error_message for failure in status.failure_info} == {"cancelled"}


def test_a_discarded_request_is_freed_with_its_last_reference(app: Celery) -> None:
    cancellation: Cancellation = app._batches_extension.engine.cancellation
    cancelled(app)
    cancellation.read()
    pool = TaskPool(app=app)
    request, *_ = requests_of(app, pool)
    cancellation.discard(request)
    assert request.revoked()
    freed = weakref.ref(request)
    gc.disable()
    try:
        del request, _
        assert freed() is None
    finally:
        gc.enable()


def test_a_member_that_was_delivered_twice_runs_neither_time(app: Celery) -> None:
    """The second delivery replaces the first one among the received requests."""
    pool = TaskPool(app=app)
    engine = app._batches_extension.engine
    batch = Batch(app=app)
    batch.add(app.tasks["run"].s())
    (message,) = waiting_messages(app)
    first, second = (make_request(app, pool, message) for _ in range(2))
    for request in (first, second):
        app._batches_extension.receivers.on_task_received(sender=SimpleNamespace(app=app), request=request)
    engine.cancellation._received = app._batches_extension.receivers.received
    batch.cancel()
    engine.cancellation.read()
    assert second.revoked()
    assert first.revoked()

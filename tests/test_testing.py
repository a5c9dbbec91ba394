from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
from celery import Celery, chain
from redis import Redis

from celery_batches_notify import (
    Batch,
    Batches,
    BatchTimeout,
    ConfigurationError,
    NoSuchBatch,
    NotificationFailed,
    WouldDeadlock,
    current_batch,
)
from celery_batches_notify.model import Notification
from celery_batches_notify.testing import Outbox, assert_notified, drain, record_notifications, sandbox
from tests.support.servers import wait_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Pager:
    """A project's own notifier, which these tests must not use."""

    name: ClassVar[str] = "pager"
    secrets: ClassVar[frozenset[str]] = frozenset({"key"})
    credentials: ClassVar[frozenset[str]] = frozenset()
    number: int = 0
    key: str = ""

    def send(self, notification: Notification) -> str:
        raise NotificationFailed("the pager is down")


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Iterator[Celery]:
    app = make_app(
        batches_notifiers={"pager": f"{__name__}.Pager"},
        batches_notifications={"pager": {"number": 1, "key": "env:NOWHERE"}, "pager:night": {"number": 2}},
    )
    app.conf.update(ran=[])
    declare(app)
    yield app
    app._batches_extension.reset()


def declare(app: Celery) -> None:
    ran = app.conf.ran

    @app.task(name="add", shared=False)
    def add(x: int, y: int = 0) -> int:
        ran.append(x)
        return x + y

    @app.task(name="fails", shared=False)
    def fails() -> None:
        raise ValueError("no")

    @app.task(name="retries", shared=False, bind=True, max_retries=3)
    def retries(self, until: int) -> None:
        ran.append(self.request.retries)
        if self.request.retries < until:
            raise self.retry(countdown=3600)

    @app.task(name="told", shared=False)
    def told(status: dict, word: str) -> None:
        ran.append((word, status["state"]))

    @app.task(name="grows", shared=False)
    def grows() -> None:
        with current_batch(app):
            add.delay(7)

    @app.task(name="calls", shared=False)
    def calls() -> None:
        add.delay(8)

    @app.task(name="again", shared=False)
    def again() -> None:
        again.delay()

    @app.task(name="waits", shared=False)
    def waits() -> None:
        add.delay(1).get(timeout=60)

    @app.task(name="cancels", shared=False)
    def cancels() -> None:
        current_batch(app).cancel()

    @app.task(name="stops", shared=False)
    def stops() -> None:
        pytest.fail("stopped in a task")


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with record_notifications() as outbox:
        yield outbox


# -- draining -------------------------------------------------------------------------------------


def test_a_drained_batch_has_run_with_its_callbacks_and_notifications(app: Celery, outbox: Outbox) -> None:
    batch = Batch("sums", app=app).on("success", app.tasks["told"].s("done")).on("complete", "pager")
    with batch:
        for i in range(3):
            app.tasks["add"].delay(i)
    status = drain(batch)
    assert (status.state, status.succeeded) == ("success", 3)
    assert [c.state for c in status.callbacks] == ["delivered", "delivered"]
    assert app.conf.ran == [0, 1, 2, ("done", "success")]
    assert [str(sent) for sent in outbox] == ["complete through pager: ✓ All 3 succeeded: sums"]


def test_retries_and_countdowns_run_in_their_order_and_nobody_waits(app: Celery) -> None:
    batch = Batch(app=app).on("success", app.tasks["told"].s("done"))
    with batch:
        app.tasks["add"].apply_async((1,), countdown=7200)
        app.tasks["add"].apply_async((2,), countdown=60)
        app.tasks["retries"].delay(2)
        app.tasks["add"].delay(3)
    assert drain(batch).state == "success"
    assert app.conf.ran == [0, 3, 2, 1, 2, 1, ("done", "success")]


def test_failures_and_unknown_tasks_are_counted_as_a_worker_counts_them(app: Celery) -> None:
    with Batch(app=app) as batch:
        app.tasks["fails"].delay()
        app.tasks["retries"].delay(9)
        app.send_task("missing")
        app.tasks["add"].apply_async((1,), expires=-1)
        app.tasks["add"].delay(2)
    status = drain(batch)
    assert (status.state, status.succeeded, status.dead) == ("dead", 1, 4)
    told = {f.task: f.error_class.rpartition(".")[2] for f in status.failure_info}
    assert told.keys() == {"fails", "retries", "missing", "add"}
    assert (told["fails"], told["retries"]) == ("ValueError", "MaxRetriesExceededError")
    assert told["add"] == "TaskRevokedError"
    assert app.conf.ran == [0, 2, 1, 2, 3]


def test_dead_members_are_retried_and_drained_again(app: Celery) -> None:
    with Batch(app=app) as batch:
        app.tasks["fails"].delay()
    assert drain(batch).dead == 1
    assert batch.retry() == 1
    assert drain(batch).failure_info[0].error_class == "ValueError"


def test_what_members_add_call_and_open_runs_too(app: Celery) -> None:
    with Batch(app=app) as batch:
        app.tasks["grows"].delay()
        app.tasks["calls"].delay()
        app.tasks["add"].apply_async((9,), queue="elsewhere")
    assert drain(batch).total == 4
    assert sorted(app.conf.ran) == [7, 8, 9]


def test_children_and_their_parent_end_together(app: Celery) -> None:
    parent = Batch(app=app, keep_open=True).on("success", app.tasks["told"].s("parent"))
    parent.add(app.tasks["add"].s(1))
    child = Batch(app=app, parent=parent).on("success", app.tasks["told"].s("child"))
    child.add(app.tasks["add"].s(2))
    parent.seal()
    assert drain(child).state == "success"
    assert parent.status().state == "success"
    assert app.conf.ran == [1, 2, ("child", "success"), ("parent", "success")]


def test_a_chain_as_callback_runs_to_its_end(app: Celery) -> None:
    batch = empty_with(app, chain(app.tasks["told"].s("first"), app.tasks["add"].si(5)))
    drain(batch)
    assert app.conf.ran == [("first", "success"), 5]


def empty_with(app: Celery, callback: object) -> Batch:
    batch = Batch(app=app).on("success", callback)
    batch.seal()
    return batch


def test_a_cancelled_batch_discards_what_waits(app: Celery) -> None:
    with Batch(app=app) as batch:
        app.tasks["cancels"].delay()
        for i in range(3):
            app.tasks["add"].apply_async((i,), countdown=60 if i else None)
    status = drain(batch)
    assert (status.state, status.succeeded, status.dead) == ("cancelled", 1, 3)
    assert app.conf.ran == []


def test_an_open_batch_is_drained_as_far_as_it_goes(app: Celery) -> None:
    batch = Batch(app=app, keep_open=True)
    batch.add(app.tasks["add"].s(1))
    assert (drain(batch).state, batch.status().succeeded) == ("open", 1)


def test_the_sweeper_looks_after_the_family_and_nobody_else(
    app: Celery, redis: Redis, outbox: Outbox
) -> None:
    ours = Batch(app=app).on("deadline", "pager", after=0.05)
    theirs = Batch(app=app).on("deadline", "pager", after=0.05)
    for batch in (ours, theirs):
        batch._enrolment.open()
    time.sleep(1.1)  # the sweeper reads whole seconds
    drain(ours)
    assert [sent.status.bid for sent in outbox] == [ours.bid]


def test_a_notification_that_fails_stays_due(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOWHERE", "k")
    batch = Batch(app=app).on("complete", "pager")
    batch.seal()
    (callback,) = drain(batch).callbacks
    assert (callback.state, callback.attempts) == ("due", 1)
    assert batch.deliveries()[0].detail == "the pager is down"


def test_an_eager_app_is_swept_and_its_broker_left_alone(make_app: Callable[..., Celery]) -> None:
    app = make_app(task_always_eager=True, broker="amqp://127.0.0.1:1")
    app.conf.update(ran=[])
    declare(app)
    with Batch(app=app).on("success", app.tasks["told"].s("done")) as batch:
        app.tasks["add"].delay(1)
    assert drain(batch).state == "success"
    assert app.conf.ran == [1, ("done", "success")]


def test_a_task_that_calls_itself_for_ever_is_given_up(app: Celery) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["again"].s())
    with pytest.raises(BatchTimeout, match=r"not drained within 0\.2 s: does a task call itself again\?"):
        drain(batch, timeout=0.2)


def test_a_task_that_waits_for_another_is_told_so(make_app: Callable[..., Celery]) -> None:
    app = make_app(result_backend="cache+memory://")
    app.conf.update(ran=[])
    declare(app)
    batch = Batch(app=app)
    batch.add(app.tasks["waits"].s())
    (failure,) = drain(batch).failure_info
    assert (failure.error_class, "result.get() within a task" in failure.error_message) == (
        "RuntimeError",
        True,
    )
    app._batches_extension.reset()


def test_what_ends_a_test_ends_it_inside_a_task_too(app: Celery) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["stops"].s())
    with pytest.raises(pytest.fail.Exception, match="stopped in a task"):
        drain(batch)


def test_draining_inside_the_block_and_of_another_broker_is_refused(
    app: Celery, make_app: Callable[..., Celery], server_url: str
) -> None:
    with Batch(app=app) as batch, pytest.raises(WouldDeadlock, match="after the block"):
        drain(batch)
    other = Batch(app=make_app(broker=server_url))
    other.seal()
    with pytest.raises(ConfigurationError, match=r'this app\'s is redis: set broker_url = "memory://"'):
        drain(other)
    with pytest.raises(NoSuchBatch):
        drain(Batch(app=app))


def test_the_current_app_is_the_drained_one_and_then_what_it_was(app: Celery) -> None:
    from celery import current_app

    before = current_app._get_current_object()
    seen = []

    @app.task(name="sees", shared=False)
    def sees() -> None:
        seen.append(current_app._get_current_object())

    batch = Batch(app=app)
    batch.add(sees.s())
    drain(batch)
    assert (seen, current_app._get_current_object()) == ([app], before)


# -- the outbox -----------------------------------------------------------------------------------


def test_the_outbox_keeps_channel_options_and_notification(app: Celery, outbox: Outbox) -> None:
    batch = Batch("rows", app=app).on("complete", "pager", number=5).on("finish", "pager:night")
    batch.seal()
    drain(batch)
    first, second = outbox
    assert (first.channel, first.options) == ("pager", {"number": 5, "key": "env:NOWHERE"})
    assert (second.channel, second.options, second.event) == ("pager:night", {"number": 2}, "finish")
    assert (second.status.state, first.notification.id) == ("success", f"cb_{batch.bid}_complete_0")
    assert "NOWHERE" not in repr(outbox)


def test_wrong_options_are_still_refused_where_they_are_declared(app: Celery, outbox: Outbox) -> None:
    with pytest.raises(ConfigurationError, match=r"no option .colour."):
        Batch(app=app).on("complete", "pager", colour="red")


def test_after_the_outbox_notifiers_send_again(app: Celery) -> None:
    with record_notifications() as outbox:
        pass
    batch = Batch(app=app).on("complete", "pager", key="env:HOME")
    batch.seal()
    assert drain(batch).callbacks[0].state == "due"
    assert outbox == []


def test_assert_notified_returns_the_one_that_fits_and_shows_all_otherwise(
    app: Celery, outbox: Outbox
) -> None:
    with pytest.raises(
        AssertionError, match="no notifications fit event='complete'; the outbox holds nothing"
    ):
        assert_notified(outbox, event="complete")
    batch = Batch("rows", app=app).on("complete", "pager").on("finish", "pager").on("finish", "pager:night")
    batch.seal()
    drain(batch)
    assert assert_notified(outbox, event="complete", bid=batch.bid) is outbox[0]
    assert assert_notified(outbox, channel="pager:night") is outbox[2]
    with pytest.raises(AssertionError) as told:
        assert_notified(outbox, event="finish")
    assert str(told.value).splitlines() == [
        "2 notifications fit event='finish'; the outbox holds",
        "  complete through pager: ✓ There was nothing to do: rows",
        "  finish through pager: ✓ There was nothing to do: rows",
        "  finish through pager:night: ✓ There was nothing to do: rows",
    ]


# -- the sandbox ----------------------------------------------------------------------------------


@pytest.fixture
def project() -> Iterator[Celery]:
    """Return an app like those of projects, whose servers cannot be reached."""
    app = Celery("project", broker="redis://127.0.0.1:1/1", set_as_current=False)
    app.conf.update(
        result_backend="redis://127.0.0.1:1/2",
        batches_backend_url="redis://127.0.0.1:1/3",
        batches_backend_options={"socket_timeout": 1},
        ran=[],
    )
    Batches(app)
    declare(app)
    yield app
    app.close()


def test_a_sandboxed_app_needs_none_of_its_servers_and_is_then_as_before(
    project: Celery, server_url: str, redis: Redis
) -> None:
    before = dict(project.conf.changes)
    for number in (1, 2):
        with sandbox(project, server_url) as app:
            assert list(Batch.all(app=app)) == []
            batch = Batch(app=app).on("success", app.tasks["told"].s("done"))
            batch.add(app.tasks["add"].s(number))
            assert drain(batch).state == "success"
            assert [r.result for r in batch.status().results()] == [number]
    assert project.conf.ran == [1, ("done", "success"), 2, ("done", "success")]
    assert {k: v for k, v in project.conf.changes.items() if k in before} == before
    assert "batches_prefix" not in project.conf.changes
    assert (project.conf.broker_url, project.conf.batches_backend_url[-1]) == ("redis://127.0.0.1:1/1", "3")
    assert project._batches_extension.engine.settings.backend_url == "redis://127.0.0.1:1/3"
    project._batches_extension.reset()
    assert redis.keys("*") == []


def test_what_one_sandbox_left_behind_the_next_does_not_see(project: Celery, server_url: str) -> None:
    with sandbox(project, server_url) as app:
        Batch(app=app).add(app.tasks["add"].s(1))
    with sandbox(project, server_url) as app:
        batch = Batch(app=app)
        batch.add(app.tasks["add"].s(2))
        drain(batch)
    assert project.conf.ran == [2]


def test_many_sandboxes_leave_no_threads_and_no_connections(
    project: Celery, server_url: str, redis: Redis
) -> None:
    import threading

    def once() -> None:
        with sandbox(project, server_url) as app:
            batch = Batch(app=app).on("success", app.tasks["told"].s("done"))
            batch.add(app.tasks["add"].s(1))
            drain(batch)

    once()
    time.sleep(0.1)
    threads, clients = threading.active_count(), len(redis.client_list())
    for _ in range(5):
        once()
    wait_until(lambda: threading.active_count() <= threads, what="the threads' end")
    wait_until(lambda: len(redis.client_list()) <= clients, what="the connections' end")


def test_an_app_without_batches_is_told_how_to_name_another(server_url: str) -> None:
    app = Celery("bare", set_as_current=False)
    with (
        pytest.raises(ConfigurationError, match="a fixture batches_app in conftest"),
        sandbox(app, server_url),
    ):
        pass

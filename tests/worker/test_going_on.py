"""Members that go on in another message, under their own id or another, do not end with this run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from celery import Celery, chain, chord
from celery.exceptions import Ignore, Reject, Retry

from celery_batches_notify import Batch, current_batch
from celery_batches_notify.testing import drain
from tests.projects.canvas_tasks import declare_tasks

Seen = list[tuple[str, int, int]]


@pytest.fixture
def seen() -> Seen:
    """The states of the batch during its member's second run."""
    return []


@pytest.fixture
def declare(app: Celery, seen: Seen) -> Callable[[Callable[..., None]], object]:
    """Declare a member by its first run. Its second run reads the batch's status and returns."""

    def declare(first_run: Callable[..., None]) -> object:
        @app.task(name="member", bind=True, shared=False)
        def member(self: object, run: int = 1) -> None:
            if run == 1:
                return first_run(self)
            status = current_batch(app).status()
            seen.append((status.state, status.succeeded, status.dead))
            return None

        return member

    return declare


def again(self: object) -> None:
    self.apply_async((2,), task_id=self.request.id)


def retry(self: object) -> None:
    self.retry(args=(2,), throw=False)


def retry_and(error: BaseException) -> Callable[..., None]:
    def first_run(self: object) -> None:
        retry(self)
        raise error

    return first_run


def swallow(self: object) -> None:
    """Catch every exception, even `Retry`, as some code does."""
    try:
        self.retry(args=(2,))
    except Exception:
        return


@pytest.mark.parametrize(
    ("first_run", "state"),
    [
        (again, "running"),
        (retry, "running"),
        (swallow, "running"),
        (retry_and(Ignore()), "running"),
        (retry_and(ValueError("not yet")), "complete"),
        (retry_and(Reject("not yet", requeue=False)), "complete"),
    ],
    ids=["calls itself", "throw=False", "Retry is swallowed", "Ignore", "raises", "Reject"],
)
def test_a_member_that_goes_on_under_its_own_id_is_not_done(
    app: Celery, declare: Callable[..., object], seen: Seen, first_run: Callable[..., None], state: str
) -> None:
    batch = Batch(app=app)
    batch.add(declare(first_run).s())
    assert drain(batch).state == "success"
    assert seen == [(state, 0, 0)]
    assert (batch.status().total, batch.status().death_at) == (1, None)


def test_a_member_that_the_broker_refuses_to_take_again_is_dead(
    app: Celery, declare: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: object) -> None:
        sender = app._batches_extension.engine.sender
        with monkeypatch.context() as patch:  # a broker in memory never refuses
            patch.setitem(vars(sender), "send", _refuse)
            retry(self)

    def _refuse(*_: object, **__: object) -> None:
        raise OSError("the broker is full")

    batch = Batch(app=app)
    batch.add(declare(refused).s())
    assert drain(batch).state == "dead"


def test_a_retry_under_another_id_is_a_member_of_its_own(
    app: Celery, declare: Callable[..., object], seen: Seen
) -> None:
    def first_run(self: object) -> None:
        raise self.retry(args=(2,), task_id="another id")

    batch = Batch(app=app)
    batch.add(declare(first_run).s())
    assert drain(batch).state == "success"
    assert seen == [("running", 1, 0)]
    assert batch.status().total == 2


def test_a_callback_that_goes_on_under_its_own_id_is_delivered_when_it_has_ended(
    app: Celery, make_app: Callable[..., Celery]
) -> None:
    ran: list[tuple[int, str]] = []

    @app.task(name="callback", bind=True, shared=False)
    def callback(self: object, status: dict) -> None:
        (state,) = [c.state for c in Batch.get(status["bid"], app=app).status().callbacks]
        ran.append((self.request.retries, state))
        if not self.request.retries:
            self.retry(throw=False)

    batch = Batch(app=app).on("success", callback.s())
    batch.add()
    drain(batch)
    assert ran == [(0, "published"), (1, "published")]
    assert [c.state for c in batch.status().callbacks] == ["delivered"]


def test_a_callback_that_is_retried_under_another_id_is_delivered_then(app: Celery) -> None:
    ran: list[str] = []

    @app.task(name="callback", bind=True, shared=False)
    def callback(self: object, status: dict) -> None:
        ran.append(self.request.id)
        if not self.request.retries:
            raise self.retry(task_id="another id", countdown=0)

    batch = Batch(app=app).on("success", callback.s())
    batch.add()
    drain(batch)
    assert [c.state for c in batch.status().callbacks] == ["delivered"]
    assert ran[0] == f"cb_{batch.bid}_success_0"


@pytest.mark.parametrize("how", ["raised", "by a task that it calls"])
def test_a_member_is_dead_if_it_raises_retry_and_none_has_left(
    app: Celery, declare: Callable[..., object], how: str
) -> None:
    @app.task(name="inner", bind=True, shared=False)
    def inner(self: object) -> None:
        raise self.retry()

    def outer(self: object) -> None:
        if how == "raised":
            raise Retry("by hand")
        inner()

    batch = Batch(app=app)
    batch.add(declare(outer).s())
    status = drain(batch)
    assert (status.state, status.failure_info[0].error_class) == ("dead", "celery.exceptions.Retry")


@pytest.mark.parametrize(
    ("what", "total"), [("single", 4), ("chain", 5), ("group", 5), ("chord", 6), ("chord in a chain", 7)]
)
def test_what_a_member_adds_to_its_own_chord_is_counted_to_its_end(
    make_app: Callable[..., Celery], server_url: str, what: str, total: int
) -> None:
    app = make_app(result_backend=server_url)
    declare_tasks(app)
    adds, t, body = (app.tasks[f"canvas.{name}"] for name in ("adds", "t", "body"))
    batch = Batch(app=app)
    batch.add(chord([adds.s(what), t.s()], body.s()))
    status = drain(batch)
    assert (status.state, status.total, status.succeeded) == ("success", total, total)
    app.backend.client.close()


def test_a_task_that_a_member_gives_its_chain_to_is_a_member_and_so_is_the_chain(app: Celery) -> None:
    declare_tasks(app)
    batch = Batch(app=app)
    batch.add(chain(app.tasks["canvas.passes_on"].s(), app.tasks["canvas.t"].s()))
    status = drain(batch)
    assert (status.state, status.total) == ("success", 3)

"""Tasks of celery-batches are refused, and locks of dropped calls are released.

`tests/neighbours` has the same with the real packages. Here tasks only claim to be theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, Task, chain
from redis import Redis

from celery_batches_notify import Batch, Batches, InvalidCallback, NotAMember
from tests.support.acl import url_as
from tests.support.servers import PATIENT, close_store


class Buffered(Task):
    __module__ = "celery_batches"


class Locking(Task):
    __module__ = "celery_singleton.singleton"
    released: list[Any] = []  # noqa: RUF012 - what is seen of it

    def release_lock(self, args: Any, kwargs: Any) -> None:
        self.released.append((list(args), kwargs))
        if args == ["broken"]:
            raise OSError("the lock's server is away")


@pytest.fixture
def tasks(app: Celery) -> Any:
    def nothing(x: object = None) -> None: ...

    app.task(nothing, name="plain", shared=False)
    app.task(nothing, name="buffered", base=Buffered, shared=False)
    app.task(nothing, name="locking", base=Locking, shared=False)
    Locking.released.clear()
    return app.tasks


def test_a_task_of_celery_batches_is_no_member(app: Celery, tasks: Any) -> None:
    batch = Batch(app=app)
    with pytest.raises(NotAMember, match="buffered is a task of celery-batches"), batch:
        tasks["buffered"].delay(1)
    with pytest.raises(NotAMember, match="buffered is a task of celery-batches"):
        batch.add(chain(tasks["plain"].s(), tasks["plain"].s(), tasks["buffered"].s()))
    with pytest.raises(NotAMember, match="buffered is a task of celery-batches"):
        batch.map(tasks["buffered"], range(3))


def test_a_task_of_celery_batches_is_no_callback(app: Celery, tasks: Any) -> None:
    with pytest.raises(InvalidCallback, match="buffered is a task of celery-batches"):
        Batch(app=app).on("success", tasks["buffered"].s())


def test_a_block_that_raises_releases_the_locks_of_its_calls(app: Celery, tasks: Any) -> None:
    with pytest.raises(ZeroDivisionError), Batch(app=app):
        tasks["plain"].delay()
        tasks["locking"].delay(x=2)
        raise ZeroDivisionError
    assert Locking.released == [([], {"x": 2})]


def test_a_lock_that_cannot_be_released_is_logged(
    app: Celery, tasks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ZeroDivisionError), Batch(app=app):
        tasks["locking"].delay("broken")
        tasks["locking"].delay(2)
        raise ZeroDivisionError
    assert len(Locking.released) == 2
    assert "the lock of a call of locking is not released: the lock's server is away" in caplog.text


def test_calls_that_leave_keep_their_locks(app: Celery, tasks: Any) -> None:
    with Batch(app=app):
        tasks["locking"].delay(1)
    assert Locking.released == []


@pytest.mark.parametrize("has_batches", [False, True], ids=["first app", "another app has batches"])
def test_what_somebody_wrapped_before_is_called_as_ever(
    redis: Redis, server_url: str, request: pytest.FixtureRequest, has_batches: bool
) -> None:
    if has_batches:
        request.getfixturevalue("app")
    app = Celery("wrapped", broker="memory://", set_as_current=False)
    app.conf.update(
        batches_backend_url=url_as(server_url),
        batches_backend_options=PATIENT,
        task_default_queue=f"q{uuid4().hex}",
    )
    seen: list[str] = []

    def wrap(send: Callable[..., Any], what: str) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            seen.append(what)
            return send(*args, **options)

        return wrapped

    app.send_task = wrap(app.send_task, "call")
    app.amqp.send_task_message = wrap(app.amqp.send_task_message, "message")
    Batches(app)

    @app.task(name="wrapped", shared=False)
    def task(x: int) -> None: ...

    task.delay(0)
    assert seen == ["call", "message"]
    seen.clear()
    batch = Batch(app=app)
    batch.map(task, range(4))
    assert seen == ["call"] * 4 + ["message"] * 4
    assert batch.status().total == 4
    close_store(app)
    app.close()

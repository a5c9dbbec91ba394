"""Apps without `Batches`: a block of another app refuses their calls, and nothing else of them changes."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from celery import Celery, chain, chord, group, shared_task
from celery._state import _task_stack
from celery.app.amqp import AMQP

from celery_batches_notify import Batch, Batches, NotAMember, outside_batch
from celery_batches_notify.messages.sender import Sender
from tests.support.servers import waiting_messages


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app()


def make_plain(**conf: object) -> Celery:
    plain = Celery("plain", broker="memory://", backend="cache+memory://", set_as_current=False)
    plain.conf.update({"task_default_queue": f"q{uuid4().hex}", **conf})

    @plain.task(name="plain", shared=False)
    def work(x: int = 0) -> int:
        return x

    return plain


@pytest.fixture
def plain(app: Celery) -> Iterator[Celery]:
    """An app of the same process that nobody gave batches."""
    plain = make_plain()
    yield plain
    plain.close()


def call(plain: Celery) -> None:
    plain.tasks["plain"].delay(1)


def sent(plain: Celery) -> int:
    return len(waiting_messages(plain))


CALLS: dict[str, Callable[[Celery], object]] = {
    "delay": call,
    "send_task": lambda plain: plain.send_task("anything", (1,)),
    "group": lambda plain: group(plain.tasks["plain"].s(n) for n in range(2)).delay(),
    "chain": lambda plain: chain(plain.tasks["plain"].s(1), plain.tasks["plain"].si(2)).delay(),
    "chord": lambda plain: chord([plain.tasks["plain"].s(1)], plain.tasks["plain"].si(2)).delay(),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_call_of_an_app_without_batches_is_refused_in_a_block(
    app: Celery, plain: Celery, kind: str
) -> None:
    with Batch(app=app, keep_open=True) as batch:
        with pytest.raises(NotAMember, match=r"is a task of <Celery plain.*`with outside_batch"):
            CALLS[kind](plain)
        with outside_batch():
            call(plain)
    call(plain)
    assert (sent(plain), batch.status().total) == (2, 0)


def test_a_block_that_a_foreign_call_ends_leaves_no_batch(app: Celery, plain: Celery) -> None:
    with pytest.raises(NotAMember), Batch(app=app):
        app.send_task("own")
        call(plain)
    assert sent(plain) == sent(app) == 0


def test_an_app_that_is_made_in_the_block_is_refused_too(app: Celery) -> None:
    with Batch(app=app, keep_open=True):
        plain = make_plain()
        plain.finalize()
        with pytest.raises(NotAMember):
            call(plain)
    plain.close()


def test_an_app_that_sent_calls_before_is_refused_too(app: Celery, make_app: Callable[..., Celery]) -> None:
    plain = make_plain()
    plain.amqp.send_task_message = plain.amqp._create_task_sender()  # as before the first Batches
    call(plain)
    make_app()
    with Batch(app=app, keep_open=True), pytest.raises(NotAMember):
        call(plain)
    call(plain)
    assert sent(plain) == 2
    plain.close()


def test_a_sender_that_somebody_else_put_there_gets_the_calls(
    app: Celery, make_app: Callable[..., Celery]
) -> None:
    plain, calls = make_plain(), list[str]()
    plain.amqp.send_task_message = lambda _producer, name, _message, **_: calls.append(name)
    make_app()
    with Batch(app=app, keep_open=True), pytest.raises(NotAMember):
        call(plain)
    call(plain)
    assert calls == ["plain"]
    plain.close()


def test_a_shared_task_of_a_current_app_without_batches_is_refused(app: Celery, plain: Celery) -> None:
    @shared_task(name="shared_by_all")
    def shared() -> None: ...

    plain.set_current()
    try:
        with Batch(app=app, keep_open=True) as batch:
            with pytest.raises(NotAMember, match="set_default"):
                shared.delay()
            app.set_current()
            shared.delay()
    finally:
        Celery("nobody", set_as_current=True).close()
    assert (batch.status().total, sent(plain)) == (1, 0)


def test_only_contexts_that_hold_the_block_refuse(app: Celery, plain: Celery) -> None:
    refused: list[str] = []

    def attempt(name: str) -> None:
        try:
            call(plain)
        except NotAMember:
            refused.append(name)

    async def coroutines() -> None:
        await asyncio.gather(asyncio.to_thread(attempt, "to_thread"))

    with Batch(app=app, keep_open=True):
        context = contextvars.copy_context()
        for target in (
            lambda: attempt("a thread's own context"),
            lambda: context.run(attempt, "a copied context"),
        ):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        asyncio.run(coroutines())
    context.run(attempt, "after the block")
    assert refused == ["a copied context", "to_thread"]
    assert sent(plain) == 2


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_task_of_an_app_without_batches_may_retry_in_a_block(app: Celery, protocol: int) -> None:
    plain = make_plain(task_protocol=protocol)

    @plain.task(name="retries", shared=False, bind=True)
    def retries(self: object) -> None:
        with Batch(app=app, keep_open=True):
            self.retry()  # type: ignore[attr-defined]

    retries.push_request(id="its-id", called_directly=False, delivery_info={}, is_eager=False)
    plain.set_current()
    _task_stack.push(retries)
    try:
        with pytest.raises(Exception, match="Retry in"):
            retries.run()
    finally:
        _task_stack.pop()
        retries.pop_request()
        Celery("nobody", set_as_current=True).close()
    assert sent(plain) == 1
    plain.close()


def test_batches_for_that_app_take_its_calls(app: Celery, plain: Celery) -> None:
    call(plain)
    plain.conf.batches_backend_url = app.conf.batches_backend_url
    plain.conf.batches_backend_options = app.conf.batches_backend_options
    Batches(plain)
    assert isinstance(plain.amqp.send_task_message, Sender)
    with Batch(app=plain) as batch:
        call(plain)
    assert batch.status().total == 1


def test_the_first_batches_of_a_process_prepares_celery_once(make_app: Callable[..., Celery]) -> None:
    prepared = vars(AMQP)["send_task_message"]
    make_app()
    assert vars(AMQP)["send_task_message"] is prepared


def test_calls_before_and_after_a_block_leave(app: Celery, plain: Celery) -> None:
    plain.send_task("add", (0,))
    with Batch(app=app) as batch:
        with pytest.raises(NotAMember, match="add is a task of <Celery plain"):
            plain.send_task("add", (1,))
        with outside_batch():
            plain.send_task("add", (2,))
    plain.send_task("add", (3,))
    assert batch.status().total == 0
    assert [m.payload[0] for m in waiting_messages(plain)] == [[0], [2], [3]]


def test_a_block_leaves_an_app_without_batches_unconfigured(app: Celery) -> None:
    read: list[str] = []
    lazy = Celery("lazy", set_as_current=False)
    lazy.config_from_object(lambda: read.append("conf") or {"broker_url": "memory://"})
    with Batch(app=app):
        app.send_task("add", (1,))
    assert not read


def test_an_app_that_gets_batches_later_has_members(app: Celery, plain: Celery, server_url: str) -> None:
    with Batch(app=app):
        app.send_task("add", (1,))
    plain.conf.batches_backend_url = server_url
    Batches(plain)
    with Batch(app=plain) as batch:
        plain.send_task("add", (1,))
    assert batch.status().total == 1


def test_whoever_replaced_the_sender_of_an_app_without_batches_keeps_its_calls(
    app: Celery, plain: Celery
) -> None:
    names: list[str] = []
    plain.amqp.send_task_message = lambda producer, name, message, **options: names.append(name)
    with Batch(app=app):
        app.send_task("add", (1,))
    plain.send_task("their", (1,))
    assert names == ["their"]

"""A block is a frame: each call goes to one batch or to none, in any context and at any time."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from celery import Celery, shared_task
from kombu import Connection
from redis import Redis

from celery_batches_notify import (
    Batch,
    BatchStatus,
    InvalidCall,
    NoSuchBatch,
    NotAMember,
    WouldDeadlock,
    current_batch,
    outside_batch,
)
from celery_batches_notify.messages.block import Call, open_frames
from celery_batches_notify.testing import drain
from tests.support.forked import in_fork
from tests.support.servers import waiting_messages


def declare(app: Celery) -> Celery:
    @app.task(name="add", shared=False)
    def add(x: int = 0) -> int:
        return x

    @app.task(name="told", shared=False)
    def told(*_: object) -> None: ...

    return app


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return declare(make_app())


@pytest.fixture
def other(make_app: Callable[..., Celery]) -> Celery:
    return declare(make_app())


@pytest.fixture
def eager(make_app: Callable[..., Celery]) -> Celery:
    return declare(make_app(task_always_eager=True))


def add(app: Celery, x: int = 0) -> object:
    return app.tasks["add"].delay(x)


def sent(app: Celery) -> list[object]:
    """Return the batch of each message at the broker, None without one, and the names of callbacks."""
    return [
        message.headers["task"] if message.headers["task"] == "told" else owner(message)
        for message in waiting_messages(app)
    ]


def owner(message: object) -> str | None:
    header = message.headers.get("batches")
    return header["bid"] if header else None


def total(batch: Batch) -> int:
    return batch.status().total


# -- a callback never enters a block ---------------------------------------------------------------


def told_on_success(app: Celery, **options: object) -> Batch:
    return Batch(app=app, **options).on("success", app.tasks["told"].s())


def test_the_callback_of_an_inner_block_leaves_though_the_outer_block_raises(app: Celery) -> None:
    with pytest.raises(LookupError), Batch(app=app):
        with told_on_success(app) as inner:
            pass
        raise LookupError
    assert sent(app) == ["told"]
    assert [c.state for c in inner.status().callbacks] == ["published"]


def test_the_callback_of_an_inner_block_is_no_member_of_the_outer(app: Celery) -> None:
    with Batch(app=app) as outer:
        add(app)
        with told_on_success(app):
            pass
    assert sent(app) == ["told", outer.bid]
    assert total(outer) == 1


@pytest.mark.parametrize("what", ["seal", "cancel", "redeliver"])
def test_a_callback_that_is_published_in_a_block_is_nobodys_member(app: Celery, what: str) -> None:
    told = Batch(app=app, keep_open=True)
    for event in ("success", "cancel"):
        told.on(event, app.tasks["told"].s() | app.tasks["told"].s())
    told.add()
    if what == "redeliver":
        told.seal()
        assert len(sent(app)) == 1
    with Batch(app=app) as around:
        add(app)
        told.redeliver("success", all=True) if what == "redeliver" else getattr(told, what)()
    messages = waiting_messages(app)
    assert [(m.headers["task"], owner(m)) for m in messages] == [("told", None), ("add", around.bid)]
    assert total(around) == 1


def test_a_message_under_a_callbacks_own_id_is_not_collected(app: Celery) -> None:
    done = Batch(app=app, keep_open=True)
    done.seal()
    mark = {"bid": done.bid, "delivery": "success:0"}
    with Batch(app=app) as batch:
        app.tasks["told"].apply_async(task_id=f"cb_{done.bid}_success_0", headers={"batches": mark})
        (message,) = waiting_messages(app)
        add(app)
    assert message.headers["batches"] == mark
    assert total(batch) == 1


def test_an_eager_callback_is_nobodys_member(eager: Celery) -> None:
    with Batch(app=eager) as outer:
        with told_on_success(eager) as inner:
            add(eager)
        add(eager)
    assert total(outer) == 1
    assert [c.state for c in inner.status().callbacks] == ["delivered"]


# -- a closed frame takes nothing ------------------------------------------------------------------


def test_a_copied_context_calls_at_once_after_the_block(app: Celery) -> None:
    with Batch(app=app) as batch:
        context = contextvars.copy_context()
        context.run(add, app)
    context.run(add, app)
    assert sent(app) == [batch.bid, None]
    assert total(batch) == 1


def test_a_coroutine_that_outlives_its_block_calls_at_once(app: Celery) -> None:
    async def main() -> Batch:
        ended = asyncio.Event()

        async def late() -> None:
            await asyncio.to_thread(add, app)
            await ended.wait()
            await asyncio.to_thread(add, app)

        with Batch(app=app) as batch:
            task = asyncio.create_task(late())
            while not batch._enrolment.has_members and len(batch._intake._block._calls) == 0:
                await asyncio.sleep(0)
        ended.set()
        await task
        return batch

    batch = asyncio.run(main())
    assert sent(app) == [batch.bid, None]
    assert total(batch) == 1


def test_blocks_that_end_in_the_order_in_which_they_began_end_both(app: Celery) -> None:
    first, second = Batch(app=app), Batch(app=app)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    add(app)
    second.__exit__(None, None, None)
    add(app)
    assert sent(app) == [second.bid, None]
    assert (total(first), total(second)) == (0, 1)


def test_generators_that_suspend_in_their_blocks_leave_none_behind(app: Celery) -> None:
    def rows(batch: Batch) -> Iterator[int]:
        with batch:
            for n in range(2):
                add(app, n)
                yield n

    first, second = Batch(app=app), Batch(app=app)
    for _ in zip(rows(first), rows(second), strict=True):
        pass
    add(app)
    assert sent(app)[-1] is None
    assert total(first) + total(second) == 4, "both suspend in one context, whose innermost block collects"


def test_a_task_leaves_no_block_to_the_next_task_of_its_process(app: Celery) -> None:
    kept: list[Iterator[None]] = []
    ran: list[str] = []

    @app.task(name="ran", shared=False)
    def note() -> None:
        ran.append("ran")

    @app.task(name="careless", shared=False)
    def careless() -> None:
        def suspended() -> Iterator[None]:
            with Batch(app=app):
                yield

        kept.append(suspended())
        next(kept[0])

    @app.task(name="next", shared=False)
    def following() -> None:
        note.delay()

    with Batch(app=app) as batch:
        careless.delay()
        following.delay()
    drain(batch)
    kept.clear()
    assert ran == ["ran"]
    assert batch.status().state == "success"


def test_a_task_leaves_no_block_to_the_code_that_ran_it(app: Celery) -> None:
    kept: list[Batch] = []

    @app.task(name="careless", shared=False)
    def careless() -> None:
        kept.append(Batch(app=app).__enter__())

    with Batch(app=app) as batch:
        careless.delay()
    drain(batch)
    add(app)
    assert sent(app) == [None]


def test_a_frame_that_closes_while_a_call_is_made_ready_does_not_take_it(app: Celery) -> None:
    with Batch(app=app) as batch:
        frame = next(open_frames())
        add(app)
    assert not frame.collect([Call(task_id="t", name="add", message=None, options={})])
    assert total(batch) == 1


def test_a_task_that_runs_in_a_block_neither_sees_nor_ends_it(eager: Celery) -> None:
    @eager.task(name="outer", shared=False)
    def outer() -> None:
        assert current_batch(eager) is not None
        add(eager)

    with Batch(app=eager) as batch:
        outer.delay()
        add(eager)
    assert total(batch) == 2


def test_a_block_that_ends_in_another_context_submits_what_it_collected(app: Celery) -> None:
    """Work like a `yield` dependency of FastAPI, whose halves run in separate contexts."""
    batch = Batch(app=app)

    def begin() -> None:
        batch.__enter__()
        add(app, 1)

    contextvars.copy_context().run(begin)
    batch.add(app.tasks["add"].s(2))
    add(app, 3)
    contextvars.copy_context().run(batch.__exit__, None, None, None)
    assert sorted(map(str, sent(app))) == sorted([batch.bid, batch.bid, "None"])
    assert total(batch) == 2


def test_a_block_that_ends_in_another_thread_submits_what_it_collected(app: Celery) -> None:
    batch = Batch(app=app)
    batch.__enter__()
    add(app)
    thread = threading.Thread(target=batch.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    add(app)
    assert sent(app) == [batch.bid, None]


# -- a fork's child ----------------------------------------------------------------------------------


def test_a_forks_child_calls_at_once_and_leaves_the_block_to_its_parent(app: Celery) -> None:
    def call() -> object:
        add(app)
        owners = sent(app)
        for do in (lambda: batch.add(app.tasks["add"].s()), lambda: batch.map(app.tasks["add"], [1])):
            with pytest.raises(InvalidCall, match="forked"):
                do()
        with pytest.raises(InvalidCall, match="forked"), batch:
            pass
        batch.__exit__(None, None, None)
        return owners, sent(app), [each.bid for each in Batch.all(app=app)]

    with Batch(app=app) as batch:
        add(app)
        assert in_fork(call) == "([None], [], [])"
        add(app)
    assert sent(app) == [batch.bid] * 2
    assert total(batch) == 2


def test_a_forks_child_that_exits_in_the_block_drops_nothing_of_its_parents(app: Celery) -> None:
    with Batch(app=app) as batch:
        add(app)
        with Batch(app=app, parent=batch):
            add(app)
        assert in_fork(lambda: batch.__exit__(SystemExit, SystemExit(), None)) == "None"
    assert total(batch) == 2


# -- two apps --------------------------------------------------------------------------------------


def test_a_block_of_another_app_does_not_hide_the_outer_one(app: Celery, other: Celery) -> None:
    with Batch(app=app) as outer, Batch(app=other) as inner:
        add(app)
        add(other)
    assert (sent(app), sent(other)) == ([outer.bid], [inner.bid])
    assert (total(outer), total(inner)) == (1, 1)


def test_a_task_of_another_app_cannot_be_mapped_nor_added(app: Celery, other: Celery) -> None:
    for call in (
        lambda batch: batch.map(other.tasks["add"], range(5)),
        lambda batch: batch.add(app.tasks["add"].s(), other.tasks["add"].s()),
    ):
        batch = told_on_success(app)
        with pytest.raises(NotAMember, match="use the task of its app"):
            call(batch)
        with pytest.raises(NoSuchBatch):
            batch.status()
    assert sent(app) == sent(other) == []


@pytest.mark.parametrize("by", ["connection", "producer"])
def test_a_call_over_a_connection_to_another_broker_is_refused_in_a_block(app: Celery, by: str) -> None:
    call = app.tasks["add"].apply_async

    def over(connection: Connection) -> dict[str, object]:
        return {by: connection if by == "connection" else connection.Producer()}

    with app.connection_for_write("memory://elsewhere") as other, app.connection_for_write() as own:
        with pytest.raises(NotAMember, match="elsewhere"), Batch(app=app):
            call(**over(other))
        with Batch(app=app) as batch:
            call(**over(own))
            with outside_batch():
                call(**over(other))
    assert total(batch) == 1


@pytest.mark.parametrize("task_id", [UUID(int=1), 7])
def test_an_id_that_is_no_text_is_refused_at_the_call(app: Celery, task_id: object) -> None:
    with Batch(app=app) as batch:
        add(app)
        add(app)
        with pytest.raises(InvalidCall, match="task_id must be a string"):
            app.tasks["add"].apply_async(task_id=task_id)
    assert total(batch) == 2


def test_a_shared_task_of_another_current_app_is_refused_in_a_block(app: Celery, other: Celery) -> None:
    @shared_task(name="shared")
    def shared() -> None: ...

    other.set_current()
    try:
        with pytest.raises(NotAMember, match=r"set_default"), told_on_success(app):
            shared.delay()
    finally:
        Celery("nobody", set_as_current=True).close()
    assert sent(app) == sent(other) == []


def test_an_empty_block_says_so(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Batch(app=app) as batch:
        pass
    (record,) = caplog.records
    assert record.getMessage().startswith(f"batch {batch.bid}: sealed without members")
    assert all(word in record.getMessage() for word in ("other threads", "apply()", "outside_batch()"))
    with caplog.at_level(logging.WARNING), Batch(app=app, keep_open=True):
        pass
    with caplog.at_level(logging.WARNING), Batch(app=app):
        add(app)
    assert caplog.text.count("sealed without members") == 1, (
        "an open batch may get members, and this one has one"
    )


def call_in_a_thread(app: Celery) -> None:
    thread = threading.Thread(target=add, args=(app,))
    thread.start()
    thread.join()


def call_outside(app: Celery) -> None:
    with outside_batch():
        add(app)


@pytest.mark.parametrize("call", [call_in_a_thread, call_outside, lambda app: app.tasks["add"].apply()])
def test_what_the_warning_of_an_empty_block_names_leaves_it_empty(
    app: Celery, caplog: pytest.LogCaptureFixture, call: Callable[[Celery], None]
) -> None:
    with caplog.at_level(logging.WARNING), Batch(app=app) as batch:
        call(app)
    assert f"batch {batch.bid}: sealed without members" in caplog.text
    assert (total(batch), batch.status().state) == (0, "success")


# -- add goes to its own batch, all or none --------------------------------------------------------


def test_add_goes_to_its_own_batch_whatever_block_is_innermost(app: Celery) -> None:
    one = app.tasks["add"].s(1)
    with Batch(app=app) as outer:
        with Batch(app=app) as inner:
            outer.add(one)
            outer.map(app.tasks["add"], [2])
        with outside_batch():
            outer.add(one)
    assert (total(outer), total(inner)) == (3, 0)
    assert sent(app) == [outer.bid] * 3


def test_add_is_all_or_none_inside_a_block_too(app: Celery) -> None:
    with Batch(app=app) as batch:
        with pytest.raises(Exception, match="cannot be sent"):
            batch.add(app.tasks["add"].s(1), app.tasks["add"].s(2), app.tasks["add"].s(object()))
        add(app)
    assert total(batch) == 1
    assert len(sent(app)) == 1


# -- results that wait -----------------------------------------------------------------------------


def test_a_result_of_an_outer_block_cannot_be_awaited_in_an_inner_one(app: Celery) -> None:
    with Batch(app=app):
        result = app.tasks["add"].delay(1)
        for inner in (Batch(app=app), outside_batch()):
            with inner, pytest.raises(WouldDeadlock):
                result.get(timeout=60)


# -- a block that raises leaves nothing ------------------------------------------------------------


def nothing_left(redis: Redis, batch: Batch) -> bool:
    return not redis.keys(f"batches:{{{batch.bid}}}*") and redis.zscore("batches:live", batch.bid) is None


def test_a_plain_apply_is_no_member_and_stores_nothing(app: Celery, redis: Redis) -> None:
    with pytest.raises(LookupError), Batch(app=app) as batch:
        app.tasks["add"].apply((1,))
        raise LookupError
    assert nothing_left(redis, batch)


def test_a_raising_block_of_eager_calls_leaves_no_batch(eager: Celery, redis: Redis) -> None:
    batch = Batch(app=eager)
    with pytest.raises(LookupError), batch:
        add(eager)
        raise LookupError
    assert nothing_left(redis, batch)
    with batch:
        add(eager)
    assert (total(batch), batch.status().state) == (1, "success")


def test_a_raising_block_leaves_its_child_and_no_parent(app: Celery, redis: Redis) -> None:
    parent = Batch(app=app)
    with pytest.raises(LookupError), parent:
        with Batch(app=app, parent=parent) as child:
            add(app)
        raise LookupError
    assert nothing_left(redis, parent)
    assert sent(app) == [child.bid]
    assert total(child) == 1


def test_a_raising_block_is_discarded_in_its_own_parent_without_a_death(app: Celery, redis: Redis) -> None:
    top = Batch(app=app, keep_open=True)
    middle = Batch(app=app, parent=top)
    with pytest.raises(LookupError), middle:
        with Batch(app=app, parent=middle):
            add(app)
        raise LookupError
    top.seal()
    assert nothing_left(redis, middle)
    status: BatchStatus = top.status()
    assert (status.total, status.dead, status.death_at) == (1, 1, None)
    assert status.finish_at


def test_a_batch_with_members_is_kept_when_a_later_block_raises(app: Celery) -> None:
    batch = Batch(app=app, keep_open=True)
    batch.add(app.tasks["add"].s(1))
    with pytest.raises(LookupError), batch:
        add(app)
        raise LookupError
    assert (total(batch), batch.status().state) == (1, "open")


def test_a_header_of_the_users_own_reaches_the_task(app: Celery) -> None:
    app.tasks["add"].apply_async((1,), headers={"batches": {"other": 1}})
    (message,) = waiting_messages(app)
    assert message.headers["batches"] == {"other": 1}

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import Retry
from kombu.exceptions import EncodeError
from redis import Redis

from celery_batches_notify import (
    Batch,
    Batches,
    BatchSealed,
    BatchTimeout,
    ConfigurationError,
    EnqueueError,
    InvalidBid,
    InvalidCall,
    InvalidCallback,
    NoSuchBatch,
    NotAMember,
    StoreUnavailable,
    UnserialisableCall,
    WouldDeadlock,
    current_batch,
    outside_batch,
)
from celery_batches_notify.membership import Membership, Outcome, State
from tests.support.servers import soon, wait_until, waiting_messages


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()

    @app.task(name="add", shared=False)
    def add(x: int, y: int = 0) -> int:
        return x + y

    @app.task(name="told", shared=False)
    def told(*_: object) -> None: ...

    return app


def finish_members(app: Celery, batch: Batch, task_ids: list[str]) -> None:
    store = app._batches_extension.engine.store
    for index, task_id in enumerate(task_ids):
        member = Membership(bid=batch.bid, index=index, task_id=task_id)
        store.record_outcome(member, Outcome(state=State.SUCCEEDED))


# -- the block ------------------------------------------------------------------------------------


def test_calls_leave_at_the_end_of_the_block_marked_with_their_place(app: Celery) -> None:
    batch = Batch("sums", app=app)
    with batch:
        first = app.tasks["add"].delay(1)
        second = app.send_task("add", (2,), headers={"mine": 1})
        assert waiting_messages(app) == []
    one, two = waiting_messages(app)
    assert (one.headers["id"], two.headers["id"]) == (first.id, second.id)
    assert one.headers["batches"] == {"bid": batch.bid, "index": 0}
    assert two.headers["batches"] == {"bid": batch.bid, "index": 1}
    assert two.headers["mine"] == 1
    assert batch.status().total == 2
    assert batch.status().state == "running"


def test_a_block_that_raises_sends_and_stores_nothing(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    with pytest.raises(RuntimeError), batch:
        app.tasks["add"].delay(1)
        raise RuntimeError
    assert waiting_messages(app) == []
    assert redis.dbsize() == 0
    with batch:
        app.tasks["add"].delay(1)
    assert batch.status().total == 1


def test_an_argument_that_cannot_be_serialised_is_refused_at_the_call(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    with pytest.raises(UnserialisableCall, match="nothing of it was enrolled") as told, batch:
        app.tasks["add"].delay(1)
        app.tasks["add"].delay(object())
    assert isinstance(told.value, EncodeError)
    assert waiting_messages(app) == []
    assert redis.dbsize() == 0


def test_headers_that_are_not_json_are_refused_at_the_call(app: Celery, redis: Redis) -> None:
    with pytest.raises(UnserialisableCall), Batch(app=app):
        app.tasks["add"].apply_async((1,), headers={"x": object()})
    assert redis.dbsize() == 0


def test_arguments_are_taken_as_they_are_at_the_call(app: Celery) -> None:
    rows: list[int] = []
    with Batch(app=app):
        for i in range(3):
            rows.append(i)
            app.tasks["add"].delay(rows)
    assert [m.payload[0] for m in waiting_messages(app)] == [[[0]], [[0, 1]], [[0, 1, 2]]]


def test_options_of_a_call_survive_the_wait(app: Celery) -> None:
    with Batch(app=app):
        app.tasks["add"].apply_async((1,), countdown=60, priority=3, serializer="pickle", task_id="mine")
    (message,) = waiting_messages(app)
    assert message.headers["id"] == "mine"
    assert message.headers["eta"]
    assert message.properties["priority"] == 3
    assert message.content_type == "application/x-python-serialize"


def test_inner_blocks_collect_for_the_innermost_batch(app: Celery) -> None:
    outer, inner = Batch(app=app), Batch(app=app)
    with outer:
        app.tasks["add"].delay(1)
        with inner:
            app.tasks["add"].delay(2)
        app.tasks["add"].delay(3)
    assert (outer.status().total, inner.status().total) == (2, 1)


def test_outside_batch_lets_calls_go_at_once_and_unmarked(app: Celery) -> None:
    with Batch(app=app) as batch:
        with outside_batch():
            app.tasks["add"].delay(1)
        (message,) = waiting_messages(app)
    assert "batches" not in message.headers
    assert batch.status().total == 0


def test_calls_of_other_threads_are_not_collected(app: Celery) -> None:
    with Batch(app=app) as batch:
        thread = threading.Thread(target=app.tasks["add"].delay, args=(2,))
        thread.start()
        thread.join()
        assert len(waiting_messages(app)) == 1
    assert batch.status().total == 0


def test_a_call_of_another_app_is_refused_in_a_block(app: Celery, make_app: Callable[..., Celery]) -> None:
    other = make_app()
    with Batch(app=app) as batch:
        with pytest.raises(NotAMember, match="add is a task of"):
            other.send_task("add", (1,))
        with outside_batch():
            other.send_task("add", (2,))
    assert batch.status().total == 0
    assert [m.payload[0] for m in waiting_messages(other)] == [[2]]


def test_a_mark_passed_on_by_hand_is_taken_off(app: Celery) -> None:
    mark = {"bid": "0123456789abcdef", "index": 0}
    app.tasks["add"].apply_async((1,), headers={"batches": mark, "headers": {"batches": mark, "trace": 1}})
    (message,) = waiting_messages(app)
    assert "batches" not in message.headers
    assert message.headers["headers"] == {"trace": 1}


def test_the_mark_is_mirrored_where_others_keep_inner_headers(app: Celery) -> None:
    with Batch(app=app) as batch:
        app.tasks["add"].apply_async((1,), headers={"headers": {"trace": 1}})
    (message,) = waiting_messages(app)
    assert message.headers["headers"] == {"trace": 1, "batches": {"bid": batch.bid, "index": 0}}


def test_a_result_of_the_block_cannot_be_awaited_inside_it(app: Celery) -> None:
    with Batch(app=app):
        result = app.tasks["add"].delay(1)
        many = group(app.tasks["add"].s(i) for i in range(2))()
        for waiting in (result, many):
            with pytest.raises(WouldDeadlock, match="block ends"):
                waiting.get(timeout=60)


def test_results_of_the_block_are_celerys_own(make_app: Callable[..., Celery], server_url: str) -> None:
    app = make_app(result_backend=server_url)

    @app.task(name="add", shared=False)
    def add(x: int) -> int:
        return x

    with Batch(app=app):
        result = add.delay(1)
    app.backend.store_result(result.id, 41, "SUCCESS")
    assert result.get(timeout=10) == 41
    app.backend.result_consumer.stop()
    app.backend.client.close()


def test_a_sealed_batch_takes_no_second_block_nor_add(app: Celery) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["add"].s(1))
    with pytest.raises(BatchSealed, match="keep_open=True"):
        batch.add(app.tasks["add"].s(2))
    with pytest.raises(BatchSealed, match="one block"), batch:
        pass
    with pytest.raises(BatchSealed), Batch.get(batch.bid, app=app):
        app.tasks["add"].delay(1)
    assert batch.status().total == 1


def test_the_same_block_cannot_be_opened_inside_itself(app: Celery) -> None:
    batch = Batch(app=app)
    with batch, pytest.raises(WouldDeadlock, match="open already"), batch:
        pass


def test_an_empty_block_is_a_success(app: Celery) -> None:
    with Batch(app=app).on("success", app.tasks["told"].s()) as batch:
        pass
    assert batch.join(0).state == "success"
    (message,) = waiting_messages(app)
    assert message.headers["id"] == f"cb_{batch.bid}_success_0"


# -- add, map, autoflush, keep_open ---------------------------------------------------------------


def test_add_returns_the_results_and_seals(app: Celery) -> None:
    batch = Batch(app=app)
    results = batch.add(app.tasks["add"].s(1), app.tasks["add"].s(2))
    assert [m.headers["id"] for m in waiting_messages(app)] == [r.id for r in results]
    assert batch.status().sealed_at


def test_add_inside_the_block_joins_it(app: Celery) -> None:
    with Batch(app=app) as batch:
        batch.add(app.tasks["add"].s(1))
        batch.map(app.tasks["add"], [2, 3])
        assert waiting_messages(app) == []
    assert batch.status().total == 3


def test_map_streams_one_call_per_item(app: Celery) -> None:
    batch = Batch(app=app)
    assert batch.map(app.tasks["add"], (i for i in range(2500))) == 2500
    messages = waiting_messages(app)
    assert [m.payload[0] for m in messages] == [[i] for i in range(2500)]
    assert [m.headers["batches"]["index"] for m in messages] == list(range(2500))
    assert batch.status().sealed_at


def test_starmap_takes_each_item_as_arguments_and_map_a_partial_signature(app: Celery) -> None:
    Batch(app=app).starmap(app.tasks["add"], [(1, 2), (3, 4)])
    Batch(app=app).map(app.tasks["add"].s(y=7), [5])
    assert [m.payload[:2] for m in waiting_messages(app)] == [[[1, 2], {}], [[3, 4], {}], [[5], {"y": 7}]]


def test_each_call_of_a_mapped_canvas_has_ids_of_its_own(make_app: Callable[..., Celery]) -> None:
    app = make_app(result_backend="cache+memory://")

    @app.task(name="step", shared=False)
    def step(*_: object) -> None: ...

    for canvas in (chain(step.s(), step.s()), chord([step.s(), step.s()], step.s())):
        Batch(app=app).map(canvas, [1, 2])
    messages = waiting_messages(app)
    later = {
        signature["options"]["task_id"]
        for *_, embed in (message.payload for message in messages)
        for signature in (*(embed["chain"] or ()), *filter(None, [embed["chord"]]))
    }
    assert (len(messages), len({message.headers["id"] for message in messages})) == (6, 6)
    assert len(later) == 2 + 2


def test_a_second_call_of_a_chain_with_the_same_ids_is_refused(make_app: Callable[..., Celery]) -> None:
    app = make_app(result_backend="cache+memory://")

    @app.task(name="step", shared=False)
    def step(*_: object) -> None: ...

    for steps in (chain(step.s(), step.s()), chain(step.s(), group(step.s(), step.s()), step.s())):
        with Batch(app=app) as batch:
            for n in range(3):
                steps.clone().delay(n)
        assert batch.status().total == 3
        with pytest.raises(InvalidCall, match=r"chain.clone\(\)"), Batch(app=app):
            for _ in range(2):  # Celery 5.7 gives the second call this id by itself
                steps.apply_async(task_id="last")
        with pytest.raises(InvalidCall, match=r"chain.clone\(\)"):
            Batch(app=app).add(*[steps.clone().set(task_id="last")] * 2)


def test_an_iterable_that_raises_leaves_the_batch_open(app: Celery) -> None:
    def items() -> object:
        yield from range(1000)
        raise LookupError

    batch = Batch(app=app)
    with pytest.raises(LookupError):
        batch.map(app.tasks["add"], items())
    assert (batch.status().state, batch.status().total) == ("open", 1000)
    batch.seal()
    assert batch.status().state == "running"


def test_autoflush_sends_every_so_many_calls(app: Celery) -> None:
    batch = Batch(app=app, autoflush=2)
    with batch:
        for i in range(5):
            app.tasks["add"].delay(i)
        assert len(waiting_messages(app)) == 4
        assert batch.status().state == "open"
    assert len(waiting_messages(app)) == 1
    assert batch.status().total == 5


def test_kept_open_a_batch_takes_calls_until_it_is_sealed_from_anywhere(app: Celery) -> None:
    batch = Batch(app=app, keep_open=True)
    batch.add(app.tasks["add"].s(1))
    with batch:
        app.tasks["add"].delay(2)
    elsewhere = Batch.get(batch.bid, app=app)
    elsewhere.add(app.tasks["add"].s(3))
    assert (batch.status().total, batch.status().state) == (3, "open")
    elsewhere.seal()
    elsewhere.seal()
    with pytest.raises(BatchSealed):
        batch.add(app.tasks["add"].s(4))
    assert batch.status().total == 3


# -- refusals of the broker and the store ---------------------------------------------------------


def break_broker(app: Celery, after: int) -> Callable[[], None]:
    """Let the broker refuse every message after the first `after`; return a function that ends that."""
    sender = app._batches_extension.engine.sender
    real, sent = sender.send, []

    def send(*args: object, **options: object) -> object:
        sent.append(1)
        if len(sent) > after:
            raise ConnectionRefusedError("broker away")
        return real(*args, **options)

    sender.__dict__["send"] = send
    return lambda: sender.__dict__.update(send=real)


def test_a_broker_that_refuses_leaves_the_batch_open_and_resume_finishes_it(app: Celery) -> None:
    fix = break_broker(app, after=3)
    batch = Batch(app=app)
    results = []
    with pytest.raises(EnqueueError, match=r"3 calls sent, 6 not sent, 1 unknown.*resume") as told, batch:
        results = [app.tasks["add"].delay(i) for i in range(10)]
    ids = [r.id for r in results]
    assert (list(told.value.sent), list(told.value.unknown), list(told.value.unsent)) == (
        ids[:3],
        ids[3:4],
        ids[4:],
    )
    assert (batch.status().state, batch.status().total) == ("open", 10)
    with pytest.raises(BatchSealed, match="resume"):
        batch.seal()
    with pytest.raises(EnqueueError):
        batch.resume()
    fix()
    batch.resume()
    messages = waiting_messages(app)
    assert [m.headers["id"] for m in messages] == ids
    assert [m.headers["batches"]["index"] for m in messages] == list(range(10))
    assert (batch.status().state, batch.status().total) == ("running", 10)
    batch.resume()
    assert waiting_messages(app) == []


def test_a_store_that_is_away_sends_nothing_and_names_itself(make_app: Callable[..., Celery]) -> None:
    app = make_app(batches_backend_url="redis://127.0.0.1:1/0")
    with (
        pytest.raises(StoreUnavailable, match=r"redis://127.0.0.1:1/0 does not answer") as told,
        Batch(app=app),
    ):
        app.send_task("add", (1,))
    assert waiting_messages(app) == []
    assert "batches_backend_url" in str(told.value)


def test_a_store_that_comes_back_takes_the_rest_with_resume(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable, match="refused"), batch:
            app.tasks["add"].delay(1)
    finally:
        redis.config_set("maxmemory", 0)
    assert waiting_messages(app) == []
    batch.resume()
    assert batch.status().total == 1
    assert len(waiting_messages(app)) == 1


def test_a_wrong_password_is_named(make_app: Callable[..., Celery], redis: Redis, server_url: str) -> None:
    url = server_url.replace("redis://", "redis://nobody:wrong@")
    with pytest.raises(StoreUnavailable, match="refused the user or the password") as told:
        Batch.get("0123456789abcdef", app=make_app(batches_backend_url=url))
    assert "wrong@" not in str(told.value)


# -- declaring ------------------------------------------------------------------------------------


def test_an_app_without_the_extension_is_told_to_call_it() -> None:
    with pytest.raises(ConfigurationError, match="call Batches\\(app\\) once"):
        Batch(app=Celery("bare", set_as_current=False))


def test_calling_the_extension_again_is_harmless(app: Celery) -> None:
    assert Batches(app) is Batches(app)
    with Batch(app=app) as batch:
        app.tasks["add"].delay(1)
    assert batch.status().total == 1


def test_the_current_app_is_used_where_none_is_given(server_url: str, redis: Redis) -> None:
    app = Celery("current", broker="memory://", set_as_current=True)
    app.conf.update(batches_backend_url=server_url)
    Batches(app)
    try:
        with Batch() as batch:
            app.send_task("add", (1,))
        assert batch.status().total == 1
        app._batches_extension.engine.store.client.close()
    finally:
        app.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"description": "x" * 1001},
        {"description": None},
        {"tags": ["x"] * 17},
        {"tags": [""]},
        {"tags": [7]},
        {"expires": 0},
        {"linger": 29},
        {"autoflush": 0},
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused_before_anything_is_stored(
    app: Celery, redis: Redis, wrong: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Batch(app=app, **wrong)
    assert redis.dbsize() == 0


def test_callbacks_are_declared_before_the_batch_is_stored(app: Celery) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["add"].s(1))
    with pytest.raises(BatchSealed, match="before its first call"):
        batch.on("complete", app.tasks["told"].s())


# -- reading --------------------------------------------------------------------------------------


def test_a_status_has_all_its_fields(app: Celery) -> None:
    batch = Batch("rows", tags=["customer:42", "ü"], app=app, expires=timedelta(hours=1))
    batch.on("complete", app.tasks["told"].s()).on("complete", app.tasks["told"].si())
    with batch:
        app.tasks["add"].delay(1)
    status = batch.status()
    now = datetime.now(UTC)
    assert (status.bid, status.description, status.tags) == (batch.bid, "rows", ("customer:42", "ü"))
    assert now - status.created_at < timedelta(seconds=10)
    assert status.created_at <= status.sealed_at
    assert timedelta(minutes=59) < status.expires_at - now <= timedelta(hours=1, seconds=1)
    assert [(c.event, c.n, c.target, c.state, c.attempts) for c in status.callbacks] == [
        ("complete", 0, "told", "waiting", 0),
        ("complete", 1, "told", "waiting", 0),
    ]
    assert (status.progress, status.parent_bid, status.children, status.duration) == (0.0, None, 0, None)


def test_half_a_character_is_replaced_where_the_batch_is_made(app: Celery) -> None:
    with Batch("half \ud83d", tags=["half \udc00", "\U0001f600"], app=app) as batch:
        app.send_task("proj.add", (1, 2))
    assert (batch.description, batch.tags) == ("half \ufffd", ("half \ufffd", "\U0001f600"))
    status = batch.status()
    assert (status.description, status.tags) == (batch.description, batch.tags)


def test_a_batch_nobody_stored_is_no_such_batch(app: Celery) -> None:
    with pytest.raises(NoSuchBatch):
        Batch(app=app).status()
    with pytest.raises(NoSuchBatch, match="never was, was deleted, or has expired"):
        Batch.get("0123456789abcdef", app=app)
    with pytest.raises(NoSuchBatch):
        Batch(app=app).join(1)


@pytest.mark.parametrize(
    "bid", ["", "short", "x" * 65, "a/b/c/d/e/f/g", "{0123456789}", "0123456789\n", None]
)
def test_a_malformed_bid_touches_no_key(app: Celery, redis: Redis, bid: str) -> None:
    with pytest.raises(InvalidBid):
        Batch.get(bid, app=app)


def test_all_lists_batches_newest_first_by_tag_and_state(app: Celery) -> None:
    made = []
    for i in range(5):
        with Batch(str(i), tags=["odd"] if i % 2 else [], app=app) as batch:
            if i > 2:
                app.tasks["add"].delay(i)
        made.append(batch)
        time.sleep(0.002)
    assert [b.description for b in Batch.all(app=app)] == ["4", "3", "2", "1", "0"]
    assert [b.description for b in Batch.all(tag="odd", app=app)] == ["3", "1"]
    assert [b.description for b in Batch.all(state="success", app=app)] == ["2", "1", "0"]
    assert [b.description for b in Batch.all("odd", "running", app=app)] == ["3"]
    made[2].delete()
    assert [b.description for b in Batch.all(app=app)] == ["4", "3", "1", "0"]


def test_all_leaves_out_batches_that_expired_and_changes_nothing(app: Celery, redis: Redis) -> None:
    gone, kept = Batch(app=app), Batch(app=app)
    for batch in (gone, kept):
        batch.seal()
    redis.delete(f"batches:{{{gone.bid}}}")
    redis.zincrby("batches:index", -61_000, gone.bid)
    assert [b.bid for b in Batch.all(app=app)] == [kept.bid]
    assert redis.zcard("batches:index") == 2, "a user who may only read lists batches too"


def test_all_pages_through_many_batches(app: Celery) -> None:
    bids = []
    for _ in range(250):
        batch = Batch(app=app)
        batch.seal()
        bids.append(batch.bid)
    assert sorted(b.bid for b in Batch.all(app=app)) == sorted(bids)


def test_delete_leaves_nothing_and_reports_make_nothing(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    ids = [r.id for r in batch.add(*(app.tasks["add"].s(i) for i in range(3)))]
    assert batch.delete() is True
    assert batch.delete() is False
    finish_members(app, batch, ids)
    assert redis.keys("batches:{*") == []
    assert redis.zcard("batches:index") == redis.zcard("batches:live") == 0


def test_join_returns_the_status_once_the_event_fired(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_batches_notify.store.followed.REREAD_SECONDS", 90.0)
    batch = Batch(app=app)
    ids = [r.id for r in batch.add(*(app.tasks["add"].s(i) for i in range(3)))]
    with soon(0.2, finish_members, app, batch, ids):
        began = time.monotonic()
        assert batch.join(timeout=100, event="success").succeeded == 3
        assert time.monotonic() - began < 60, "a token wakes it, not the next reading"


def test_join_times_out_with_celerys_own_error_too(app: Celery) -> None:
    from celery.exceptions import TimeoutError as CeleryTimeoutError

    batch = Batch(app=app)
    batch.add(app.tasks["add"].s(1))
    with pytest.raises(BatchTimeout) as told:
        batch.join(timeout=timedelta(seconds=0.1))
    assert isinstance(told.value, CeleryTimeoutError)
    with pytest.raises(InvalidCallback, match="no event 'done'"):
        batch.join(event="done")
    with pytest.raises(WouldDeadlock), Batch(app=app) as open_one:
        open_one.join(1)


def test_follow_shows_the_way_to_the_end(app: Celery) -> None:
    batch = Batch(app=app)
    ids = [r.id for r in batch.add(*(app.tasks["add"].s(i) for i in range(3)))]
    readings = iter(batch.follow())
    seen = [next(readings)]
    finish_members(app, batch, ids)
    seen += readings
    assert seen[0].pending == 3
    assert seen[-1].finished
    assert (seen[-1].state, seen[-1].progress, seen[-1].succeeded) == ("success", 1.0, 3)
    assert [p.pending for p in seen] == sorted((p.pending for p in seen), reverse=True)


def test_follow_works_with_async_for(app: Celery) -> None:
    batch = Batch(app=app)
    ids = [r.id for r in batch.add(app.tasks["add"].s(1))]

    async def watch() -> list[str]:
        states = []
        async for progress in batch.follow():
            states.append(progress.state)
            if len(states) == 1:
                finish_members(app, batch, ids)
        return states

    assert asyncio.run(watch()) == ["running", "success"]


def test_follow_ends_when_the_batch_is_deleted(app: Celery) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["add"].s(1))
    readings = iter(batch.follow())
    assert next(readings).state == "running"
    batch.delete()
    app._batches_extension.engine.store.client.publish(f"batch-{batch.bid}", "+")
    assert list(readings) == []


def test_a_cancelled_follower_frees_its_thread_and_connection_though_nothing_moves(
    app: Celery, redis: Redis
) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["add"].s(1))

    async def watch_briefly() -> None:
        async def watch() -> None:
            async for _ in batch.follow():
                pass

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch(), 0.2)

    asyncio.run(watch_briefly())  # it ends only when the thread has
    wait_until(lambda: redis.pubsub_numsub(f"batch-{batch.bid}")[0][1] == 0, what="the connection's end")


def test_following_gives_its_connection_back(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["add"].s(1))
    readings = iter(batch.follow())
    next(readings)
    wait_until(lambda: redis.pubsub_numsub(f"batch-{batch.bid}")[0][1] == 1, what="the subscription")
    readings.close()
    wait_until(lambda: redis.pubsub_numsub(f"batch-{batch.bid}")[0][1] == 0)


# -- eager ----------------------------------------------------------------------------------------


@pytest.fixture
def eager(make_app: Callable[..., Celery]) -> Celery:
    app = make_app(task_always_eager=True, broker="amqp://127.0.0.1:1")
    app.conf.update(ran=[])

    @app.task(name="add", shared=False)
    def add(x: int, y: int = 0) -> int:
        app.conf.ran.append(x)
        return x + y

    @app.task(name="nests", shared=False)
    def nests() -> None:
        add.delay(100)

    @app.task(name="fails", shared=False)
    def fails() -> None:
        raise ValueError("no")

    @app.task(name="retries", shared=False, bind=True, max_retries=2)
    def retries(self) -> None:
        if self.request.retries < 1:
            raise self.retry(countdown=0)

    @app.task(name="told", shared=False)
    def told(status: dict, word: str) -> None:
        app.conf.ran.append((word, status["state"], status["total"]))

    @app.task(name="knows", shared=False)
    def knows() -> None:
        app.conf.ran.append(current_batch(app).bid)

    return app


def test_eager_calls_are_enrolled_counted_and_their_callbacks_run_inline(eager: Celery) -> None:
    batch = Batch(app=eager).on("success", eager.tasks["told"].s("done"))
    with batch:
        assert eager.tasks["add"].delay(1, 2).get() == 3
        eager.tasks["retries"].delay()
        eager.tasks["nests"].delay()
        eager.tasks["knows"].delay()
        assert batch.status().state == "open"
    assert eager.conf.ran == [1, 100, batch.bid, ("done", "success", 4)]
    status = batch.status()
    assert (status.total, status.succeeded, status.state) == (4, 4, "success")
    assert [c.state for c in status.callbacks] == ["delivered"]


def test_an_eager_failure_counts_as_dead(eager: Celery) -> None:
    batch = Batch(app=eager).on(
        "death", eager.tasks["told"].s("dead") | eager.tasks["told"].si({"state": 0, "total": 0}, "x")
    )
    with batch:
        eager.tasks["fails"].delay()
        group(eager.tasks["add"].s(i) for i in range(2))()
        chord([eager.tasks["add"].s(5)], eager.tasks["told"].si({"state": 1, "total": 1}, "body"))()
    assert batch.status().dead == 1
    assert batch.status().total == 5
    assert ("dead", "dead", 5) in eager.conf.ran


def test_an_eager_failure_that_propagates_counts_as_dead(eager: Celery) -> None:
    """Celery then sends no signal of a failure, and raises a retry instead of making it."""
    eager.conf.task_eager_propagates = True

    @eager.task(name="retries_errors", shared=False, autoretry_for=(ValueError,))
    def retries_errors() -> None:
        raise ValueError("no")

    batch = Batch(app=eager).on("finish", eager.tasks["told"].s("over"))
    with batch:
        for name in ("fails", "retries", "retries_errors"):
            with pytest.raises((ValueError, Retry)):
                eager.tasks[name].delay()
    assert eager.conf.ran == [("over", "dead", 3)]
    failed = [failure.error_class for failure in batch.status().failure_info]
    assert failed == ["ValueError", "celery.exceptions.Retry", "ValueError"]


def test_an_eager_block_whose_store_is_away_raises_at_its_end(make_app: Callable[..., Celery]) -> None:
    app = make_app(task_always_eager=True, batches_backend_url="redis://127.0.0.1:1/0")

    @app.task(name="add", shared=False)
    def add() -> int:
        return 1

    with pytest.raises(StoreUnavailable), Batch(app=app):
        assert add.delay().get() == 1


def test_an_id_given_by_hand_names_a_member_too(app: Celery) -> None:
    with Batch(app=app) as batch:
        app.tasks["add"].apply_async((1,), task_id="row-17")
        app.tasks["add"].apply_async((1,), task_id=str(uuid4()).upper())
    finish_members(app, batch, [m.headers["id"] for m in waiting_messages(app)])
    assert batch.status().state == "success"

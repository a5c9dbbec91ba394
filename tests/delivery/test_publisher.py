from __future__ import annotations

from collections.abc import Callable

import pytest
from celery import Celery, Task, chain, chord, group
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import before_task_publish
from kombu import serialization
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.delivery.backoff import DELAYS_SECONDS, JITTER
from celery_batches_notify.messages.headers import DELIVER_TASK
from celery_batches_notify.messages.traces import context_of_report
from celery_batches_notify.testing import drain
from celery_batches_notify.testing.server import embedded_server, find_free_port
from tests.support.servers import wait_until


def told(*_: object) -> None:
    """Be called back."""


def told_too(*_: object) -> None:
    """Be called back, too."""


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()
    app.task(told, name="told", shared=False)
    return app


def queued(app: Celery, queue: str) -> list[dict]:
    with app.connection_for_read() as connection, connection.SimpleQueue(queue) as waiting:
        found = []
        while waiting.qsize():
            message = waiting.get_nowait()
            message.ack()
            found.append(message.headers)
        return found


@pytest.mark.parametrize(
    ("own", "batch_queue", "setting", "expected"),
    [
        ("own", "batch", "setting", "own"),
        (None, "batch2", "setting", "batch2"),
        (None, None, "setting3", "setting3"),
        (None, None, None, None),
    ],
)
def test_the_signatures_own_queue_wins_then_the_batchs_then_the_settings(
    make_app: Callable[..., Celery],
    own: str | None,
    batch_queue: str | None,
    setting: str | None,
    expected: str | None,
) -> None:
    app = make_app(batches_callback_queue=setting, task_create_missing_queues=True)
    app.task(told, name="told", shared=False)
    signature = app.tasks["told"].s()
    batch = Batch(app=app, callback_queue=batch_queue).on(
        "complete", signature.set(queue=own) if own else signature
    )
    batch.on("complete", app.tasks["told"].s() | app.tasks["told"].s())
    batch.seal()
    headers = queued(app, expected or app.conf.task_default_queue)
    assert headers[0]["id"] == f"cb_{batch.bid}_complete_0"
    assert headers[0]["batches"] == {"bid": batch.bid, "delivery": "complete:0", "claim": 1}
    if not own:
        assert headers[1]["id"] == f"cb_{batch.bid}_complete_1_0"


def test_a_callback_with_an_id_of_its_class_is_delivered_when_it_is_published(app: Celery) -> None:
    class Named(Task):
        def apply_async(self, *args: object, **options: object) -> object:
            return super().apply_async(*args, **{**options, "task_id": "named"})

    named = app.task(told, base=Named, name="named", shared=False)
    batch = Batch(app=app).on("success", named.s()).on("success", app.tasks["told"].s())
    batch.seal()
    assert [c.state for c in batch.status().callbacks] == ["delivered", "published"]


def test_callbacks_are_published_in_the_order_in_which_they_fired(app: Celery) -> None:
    batch = Batch(app=app)
    for event in ("success", "finish", "complete", "complete"):
        batch.on(event, app.tasks["told"].s())
    batch.seal()
    ids = [h["id"].removeprefix(f"cb_{batch.bid}_") for h in queued(app, app.conf.task_default_queue)]
    assert ids == ["complete_0", "complete_1", "finish_0", "success_0"]


def test_a_broker_that_is_away_leaves_callbacks_due_and_the_seal_stands(
    make_app: Callable[..., Celery], caplog: pytest.LogCaptureFixture
) -> None:
    port = find_free_port()
    app = make_app(broker=f"redis://127.0.0.1:{port}/0", broker_transport_options={"max_retries": 0})
    app.task(told, name="told", shared=False)
    batch = Batch(app=app).on("success", app.tasks["told"].s())
    batch.seal()
    assert batch.status().state == "success"
    assert [(c.state, c.attempts) for c in batch.status().callbacks] == [("due", 0)]
    assert "by told: not published yet" in caplog.text

    def published() -> bool:
        return [(c.state, c.attempts) for c in batch.status().callbacks] == [("published", 1)]

    with embedded_server(port=port):
        engine = app._batches_extension.engine
        wait_until(
            lambda: (
                engine.publisher.publish(batch.bid, engine.store.claim_deliveries(batch.bid)) or published()
            )
        )


def publish_what_is_due(app: Celery, redis: Redis, batch: Batch) -> None:
    """Make its callbacks due, and sweep."""
    outbox = f"batches:{{{batch.bid}}}:outbox"
    for entry, value in redis.hgetall(outbox).items():
        state, attempts, _, *claim = value.split()
        if state == b"due":
            redis.hset(outbox, entry, b" ".join([state, attempts, b"1", *claim]))
    engine = app._batches_extension.engine
    engine.publisher.publish(batch.bid, engine.store.claim_deliveries(batch.bid))


def lines(batch: Batch) -> list[tuple[str, int, str, str]]:
    return [(line.channel, line.attempt, line.outcome, line.detail) for line in batch.deliveries()]


def refuse(_: object) -> None:
    raise ValueError("not for this one")


def test_a_callback_that_can_never_be_published_is_given_up_and_the_next_ones_go(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    serialization.register("refuses", refuse, refuse, "application/x-refused")
    told = app.tasks["told"]
    batch = Batch(app=app).on("success", told.s().set(serializer="refuses")).on("success", told.s())
    batch.seal()
    assert [(c.state, c.attempts) for c in batch.status().callbacks] == [("given_up", 1), ("published", 1)]
    detail = "not published: EncodeError: not for this one"
    assert lines(batch) == [("told", 1, "given_up", detail)]
    assert f"batch {batch.bid} 'success' by told: given up (attempt 1): {detail}" in caplog.text


@pytest.mark.parametrize("exc", [RuntimeError("passing"), OSError("passing"), KeyError("passing")])
def test_what_keeps_a_callback_from_being_published_is_tried_again_for_a_good_day(
    app: Celery, redis: Redis, caplog: pytest.LogCaptureFixture, exc: Exception
) -> None:
    """A task's own `apply_async`, or a router, may raise what looks like a broker that is away."""
    passing, told, refused = app.task(told_too, name="passing", shared=False), app.tasks["told"], [exc] * 7
    send = passing.apply_async

    def apply_async(*args: object, **options: object) -> object:
        if refused:
            raise refused.pop()
        return send(*args, **options)

    passing.apply_async = apply_async
    batch = Batch(app=app).on("success", passing.s()).on("success", told.s())
    batch.seal()
    for attempt, delay in enumerate(DELAYS_SECONDS, 1):
        first, second = batch.status().callbacks
        assert (first.state, first.attempts, second.state) == ("due", attempt, "published")
        snapshot = app._batches_extension.engine.store.read_snapshot(batch.bid)
        due_in = int(snapshot.outbox[b"success:0"].split()[2]) / 1000 - snapshot.now.timestamp()
        assert due_in <= delay * (1 + JITTER)
        publish_what_is_due(app, redis, batch)
    detail = f"not published: {type(exc).__name__}: {exc}"
    assert lines(batch) == [("passing", attempt, "failed", detail) for attempt in range(1, 8)]
    assert [c.state for c in batch.status().callbacks] == ["published", "published"]
    assert "given up" not in caplog.text


def test_a_callback_that_is_refused_eight_times_is_given_up_with_a_line(
    app: Celery, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    def apply_async(*_: object, **__: object) -> None:
        raise RuntimeError("never")

    app.tasks["told"].apply_async = apply_async
    batch = Batch(app=app).on("success", app.tasks["told"].s())
    batch.seal()
    for _ in range(9):
        publish_what_is_due(app, redis, batch)
    assert [(c.state, c.attempts) for c in batch.status().callbacks] == [("given_up", 8)]
    assert [outcome for _, _, outcome, _ in lines(batch)] == ["failed"] * 7 + ["given_up"]
    assert f"batch {batch.bid} 'success' by told: given up (attempt 8): {lines(batch)[-1][3]}" in caplog.text


def test_a_soft_time_limit_while_callbacks_are_published_ends_the_callers_task(
    app: Celery,
) -> None:
    def apply_async(*_: object, **__: object) -> None:
        raise SoftTimeLimitExceeded

    app.tasks["told"].apply_async = apply_async
    batch = Batch(app=app).on("success", app.tasks["told"].s())
    with pytest.raises(SoftTimeLimitExceeded):
        batch.seal()
    assert [(c.state, c.attempts) for c in batch.status().callbacks] == [("due", 0)]


def test_what_publishes_a_callback_may_end_another_batch_on_its_way(app: Celery) -> None:
    told = app.tasks["told"]
    other = Batch(app=app).on("success", told.s())
    ends_another = app.task(told_too, name="ends_another", shared=False)
    send = ends_another.apply_async

    def apply_async(*args: object, **options: object) -> object:
        other.seal()
        return send(*args, **options)

    ends_another.apply_async = apply_async
    batch = Batch(app=app).on("success", ends_another.s())
    batch.seal()
    assert [b.status().callbacks[0].state for b in (batch, other)] == ["published", "published"]


# -- by name --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::celery.exceptions.CDeprecationWarning")
@pytest.mark.parametrize(
    ("batch_queue", "expected"), [(None, "reports7"), ("batch7", "batch7")], ids=["its own", "the batch's"]
)
def test_a_process_without_the_task_publishes_it_by_its_name_to_its_queue(
    make_app: Callable[..., Celery], batch_queue: str | None, expected: str
) -> None:
    app = make_app()
    task = app.task(told, name="told", shared=False, queue="reports7", priority=3)
    batch = Batch(app=app, callback_queue=batch_queue).on("success", task.s("x"))
    app.tasks.unregister("told")
    batch.seal()
    (headers,) = queued(app, expected)
    assert (headers["task"], headers["id"]) == ("told", f"cb_{batch.bid}_success_0")
    assert headers["batches"] == {"bid": batch.bid, "delivery": "success:0", "claim": 1}
    assert [c.state for c in batch.status().callbacks] == ["published"]


def test_a_callback_taken_by_a_worker_without_its_task_is_resent_and_given_up(
    app: Celery, redis: Redis
) -> None:
    """Another worker of that queue may have the task, or get it by an upgrade."""
    batch = Batch(app=app).on("success", app.tasks["told"].s())
    app.tasks.unregister("told")
    batch.seal()
    for attempt in range(1, 9):
        drain(batch)
        assert lines(batch)[-1][:3] == ("told", attempt, "failed" if attempt < 8 else "given_up")
        publish_what_is_due(app, redis, batch)
    assert [(c.state, c.attempts) for c in batch.status().callbacks] == [("given_up", 8)]
    app.task(told, name="told", shared=False)
    batch.redeliver("success")
    drain(batch)
    assert [(c.state, c.attempts) for c in batch.status().callbacks] == [("delivered", 1)]


# -- retries --------------------------------------------------------------------------------------


def try_twice(self: Task, *_: object) -> None:
    SEEN.append((self.request.retries, (self.request.headers or {}).get("trace")))
    if not self.request.retries:
        raise self.retry(countdown=0)


SEEN: list[tuple[int, str | None]] = []


@pytest.mark.parametrize("headers", [{}, {"headers": {"trace": "x"}}], ids=["plain", "with an inner dict"])
def test_a_callback_that_is_retried_keeps_its_delivery(
    app: Celery, redis: Redis, headers: dict[str, object]
) -> None:
    """Celery's retry keeps only the inner `headers` of a message that has one, as tracers write them."""
    SEEN.clear()
    task = app.task(try_twice, name="try_twice", shared=False, bind=True)
    batch = Batch(app=app).on("success", task.s().set(headers=headers))
    batch.seal()
    drain(batch)
    assert [(c.state, c.attempts) for c in batch.status().callbacks] == [("delivered", 1)]
    seen, trace = list(SEEN), "x" if headers else None
    assert seen == [(0, trace), (1, trace)]


def test_a_tracer_that_adds_headers_as_a_callback_leaves_does_not_cost_its_delivery(
    app: Celery, redis: Redis
) -> None:
    def add_trace(headers: dict[str, object], **_: object) -> None:
        headers["headers"] = {"trace": "x"}

    task = app.task(try_twice, name="try_twice", shared=False, bind=True)
    batch = Batch(app=app).on("success", task.s())
    before_task_publish.connect(add_trace)
    try:
        batch.seal()
    finally:
        before_task_publish.disconnect(add_trace)
    drain(batch)
    assert [(c.state, c.attempts) for c in batch.status().callbacks] == [("delivered", 1)]


def test_the_inner_headers_of_a_callback_hold_its_delivery_too(app: Celery) -> None:
    batch = Batch(app=app).on("success", app.tasks["told"].s().set(headers={"headers": {"trace": "x"}}))
    batch.seal()
    (headers,) = queued(app, app.conf.task_default_queue)
    delivery = {"bid": batch.bid, "delivery": "success:0", "claim": 1}
    assert (headers["batches"], headers["headers"]) == (delivery, {"trace": "x", "batches": delivery})


def test_a_retry_of_a_callback_is_heard_of(app: Celery, redis: Redis) -> None:
    """Otherwise one that waits for its retry for days would be taken for silent."""
    entries: list[bytes] = []

    def poll(self: Task, status: dict[str, object]) -> None:
        outbox = f"batches:{{{status['bid']}}}:outbox"
        entries.append(redis.hget(outbox, "success:0"))
        redis.hset(outbox, "success:0", "published 1 1 1")
        if not self.request.retries:
            raise self.retry(countdown=0)

    batch = Batch(app=app).on("success", app.task(poll, name="poll", shared=False, bind=True).s())
    batch.seal()
    drain(batch)
    first, second = (int(entry.split()[2]) for entry in entries)
    assert second >= first > 1


# -- without the result backend -------------------------------------------------------------------


def test_a_callback_is_published_while_the_result_backend_is_away(make_app: Callable[..., Celery]) -> None:
    app = make_app(result_backend="redis://127.0.0.1:1/0")
    app.task(told, name="told", shared=False)
    batch = Batch(app=app).on("success", app.tasks["told"].s()).on("success", "webhook", url="http://x.test/")
    batch.on("success", app.tasks["told"].s() | app.tasks["told"].s())
    batch.seal()
    assert [c.state for c in batch.status().callbacks] == ["published", "published", "delivered"]
    headers = queued(app, app.conf.task_default_queue)
    assert [h["id"].removeprefix(f"cb_{batch.bid}_") for h in headers] == [
        "success_0",
        "success_1",
        "success_2_0",
    ]
    assert not headers[0]["ignore_result"], "the worker still stores what it returns"


def test_only_callbacks_leave_without_asking_the_result_backend(
    make_app: Callable[..., Celery], server_url: str
) -> None:
    app = make_app(result_backend=server_url)
    told = app.task(told_too, name="told", shared=False)
    asked: list[str] = []
    app.backend.result_consumer.consume_from = asked.append
    batch = Batch(app=app).on("success", told.s())
    batch.seal()
    assert asked == []
    result = told.delay()
    assert asked == [result.id]


def test_a_chord_is_called_by_a_task_for_it_may_wait_for_the_result_backend(
    make_app: Callable[..., Celery], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(result_backend="redis://127.0.0.1:1/0", task_routes={"told": {"queue": "reports"}})
    task = app.task(told, name="told", shared=False)
    batch = Batch(app=app).on("success", chord([task.s(), task.s()], task.s()))
    batch.on("success", chain(group(task.s(), task.s()), task.s()))
    batch.seal()
    assert [c.state for c in batch.status().callbacks] == ["published", "published"]
    headers = queued(app, "reports")
    assert [h["task"] for h in headers] == [DELIVER_TASK] * 2
    assert [h["id"] for h in headers] == [f"cb_{batch.bid}_success_{n}" for n in range(2)]


def test_each_task_of_a_group_carries_the_trace_of_the_member_that_made_it_due(app: Celery) -> None:
    told, contexts = app.tasks["told"], []

    @app.task(name="member", bind=True, shared=False)
    def member(self: Task) -> None:
        vars(self.request).update({"sentry-trace": "a-b-1"})
        contexts.append(context_of_report())

    member.apply()
    batch = Batch(app=app).on("success", group(told.s().set(headers={"own": "x"}), told.s()))
    contexts[0].run(batch.seal)
    first, second = queued(app, app.conf.task_default_queue)
    assert [first["sentry-trace"], second["sentry-trace"], first["own"]] == ["a-b-1", "a-b-1", "x"]
    assert second["headers"] == {"sentry-trace": "a-b-1"}


def test_a_chord_without_a_result_backend_is_given_up_and_says_so(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    told = app.tasks["told"]
    batch = Batch(app=app).on("success", chord([told.s()] * 2, told.s())).on("success", told.s())
    batch.seal()
    drain(batch)
    assert [c.state for c in batch.status().callbacks] == ["given_up", "delivered"]
    details = [detail for _, _, outcome, detail in lines(batch) if outcome == "given_up"]
    assert "NotImplementedError" in details[0]
    assert "result backend" in caplog.text


def test_a_deleted_batch_publishes_nothing(app: Celery) -> None:
    from celery_batches_notify.store.recorded import Recorded, first_claims

    batch = Batch(app=app).on("success", app.tasks["told"].s())
    batch.seal()
    queued(app, app.conf.task_default_queue)
    batch.delete()
    app._batches_extension.engine.publisher.publish(
        batch.bid, Recorded(word="due", due=first_claims(["success:0"]))
    )
    assert queued(app, app.conf.task_default_queue) == []

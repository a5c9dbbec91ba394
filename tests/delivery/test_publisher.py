from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from celery import Celery
from redis import Redis
from servers import wait_until

from celery_batches_notify import Batch
from celery_batches_notify.demo.valkey import embedded_server, find_free_port


def told(*_: object) -> None:
    """Be called back."""


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
    assert headers[0]["batches"] == {"bid": batch.bid, "delivery": "complete:0"}
    if not own:
        assert headers[1]["id"] == f"cb_{batch.bid}_complete_1_0"


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
        engine = app._batches_engine.engine
        wait_until(
            lambda: (
                engine.publisher.publish_due(batch.bid, engine.store.claim_deliveries(batch.bid))
                or published()
            )
        )


def test_a_callback_that_can_never_be_published_is_given_up_and_the_next_ones_go(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    from celery import chord

    told = app.tasks["told"]
    batch = Batch(app=app).on("success", chord([told.s()], told.s())).on("success", told.s())
    batch.seal()
    assert [c.state for c in batch.status().callbacks] == ["given_up", "published"]
    assert "result backend" in caplog.text


def test_a_task_name_that_is_not_registered_any_more_is_given_up(
    app: Celery, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    batch = Batch(app=app).on("success", app.tasks["told"].s())
    app.tasks.unregister("told")
    with caplog.at_level(logging.ERROR):
        batch.seal()
    assert [c.state for c in batch.status().callbacks] == ["given_up"]
    assert "'told' is not registered" in caplog.text


def test_a_deleted_batch_publishes_nothing(app: Celery) -> None:
    from celery_batches_notify.store.deliveries import Claim

    batch = Batch(app=app).on("success", app.tasks["told"].s())
    batch.seal()
    queued(app, app.conf.task_default_queue)
    batch.delete()
    app._batches_engine.engine.publisher.publish_due(batch.bid, [Claim(entry="success:0", attempts=0)])
    assert queued(app, app.conf.task_default_queue) == []

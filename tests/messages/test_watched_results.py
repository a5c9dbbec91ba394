"""The result backend watches for the results of a block that somebody holds when its calls leave."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.producer.stamping import Stamp
from tests.support.servers import wait_until


@pytest.fixture
def app(make_app: Callable[..., Celery], server_url: str) -> Celery:
    app = make_app(broker=server_url, result_backend=server_url)
    app.task(name="any", shared=False)(_any)
    with Batch(app=app):  # Celery makes the first calls of a template
        for _ in range(3):
            app.tasks["any"].delay(1)
    return app


def _any(_: object) -> None:
    pass


def _watched(redis: Redis) -> set[str]:
    return {
        name.decode().removeprefix("celery-task-meta-")
        for name in redis.pubsub_channels("celery-task-meta-*")
    }


def test_held_results_are_watched_before_their_calls_leave(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    push = Stamp.push

    def noting(self: Stamp, *args: Any) -> None:
        wait_until(lambda: _watched(redis) >= {result.id for result in held})
        seen.append(_watched(redis))
        push(self, *args)

    monkeypatch.setattr(Stamp, "push", noting)
    with Batch(app=app):
        held = [app.tasks["any"].delay(n) for n in range(5)]
        assert not _watched(redis) & {result.id for result in held}
    assert len(seen) == 1 and seen[0] >= {result.id for result in held}


def test_dropped_results_cost_the_backend_nothing(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    consumer = app.backend.result_consumer
    for name in ("consume_from", "cancel_for"):
        monkeypatch.setattr(consumer, name, asked.append)
    with Batch(app=app) as batch:
        for n in range(5):
            app.tasks["any"].delay(n)
    gc.collect()
    assert asked == [] and batch.status().total == 5


def test_a_held_result_arrives_and_is_forgotten(app: Celery, redis: Redis) -> None:
    with Batch(app=app):
        result = app.tasks["any"].delay(1)
    app.backend.store_result(result.id, "there", "SUCCESS")
    assert result.get(timeout=20) == "there"
    task_id = result.id
    del result
    gc.collect()
    wait_until(lambda: task_id not in _watched(redis))


def test_results_of_add_are_watched(app: Celery, redis: Redis) -> None:
    results = Batch(app=app).add(*[app.tasks["any"].s(n) for n in range(4)])
    wait_until(lambda: _watched(redis) >= {result.id for result in results})


def test_what_was_asked_for_in_the_block_is_forgotten_too(app: Celery, redis: Redis) -> None:
    seen: list[object] = []
    with Batch(app=app):
        result = app.tasks["any"].delay(1)
        task_id = result.id
        result.then(seen.append)
        wait_until(lambda: task_id in _watched(redis))
    app.backend.store_result(result.id, "there", "SUCCESS")
    assert result.get(timeout=20) == "there" and seen == [result]
    del result
    seen.clear()
    gc.collect()
    wait_until(lambda: task_id not in _watched(redis))


def test_calls_leave_although_the_backend_does_not_watch(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def away(_: object, task_id: str) -> None:
        asked.append(task_id)
        raise ConnectionError("away")

    monkeypatch.setattr(app.backend, "on_task_call", away)
    with caplog.at_level(logging.WARNING), Batch(app=app) as batch:
        held = [app.tasks["any"].delay(n) for n in range(3)]
    assert batch.status().total == 3
    assert asked == [held[0].id]
    assert "does not watch for results of a block" in caplog.text
    monkeypatch.undo()
    app.backend.store_result(held[1].id, "there", "SUCCESS")
    assert held[1].get(timeout=20) == "there"

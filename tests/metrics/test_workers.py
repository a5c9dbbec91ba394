"""Counters while real workers run batches: exact with a new child per task, and after a kill."""

from __future__ import annotations

from collections import Counter

import pytest
from redis import Redis

from celery_batches_notify import Batch
from tests.support.apps import open_app
from tests.support.servers import kill, running_worker, wait_until

pytestmark = pytest.mark.timeout(240)


def test_counters_are_exact_with_a_new_child_per_task_and_after_a_kill(redis: Redis, server_url: str) -> None:
    with open_app(server_url) as app:
        store = app._batches_extension.engine.store
        batches: list[Batch] = []

        def add_batches() -> None:
            for _ in range(4):
                batch = Batch(app=app).on("success", app.signature("proj.callback", args=("x",)))
                batch.add(*(app.signature("proj.ok") for _ in range(4)))
                batches.append(batch)
            wait_until(
                lambda: all(is_delivered(batch) for batch in batches), seconds=90, what="the callbacks"
            )

        options = ("prefork", "--max-tasks-per-child=1")
        with running_worker(server_url, *options, BATCHES_TEST_LINGER="3600") as worker:
            add_batches()
            kill(worker)  # it may have counted some
        with running_worker(server_url, *options, BATCHES_TEST_LINGER="3600"):
            add_batches()
            wait_until(
                lambda: not redis.zcard("batches:live"), seconds=90, what="the end of the sweeper's list"
            )
        totals = store.read_totals()
    kinds = Counter[str]()
    for name, n in totals.items():
        kinds[name.partition(":")[0]] += n
    assert totals["delivery:task:delivered"] == kinds["delivery"] == 8
    assert (kinds["created"], kinds["ended"], kinds["duration"], kinds["members"]) == (8, 8, 8, 32)
    assert (totals["ended:success"], totals["members:succeeded"]) == (8, 32)


def is_delivered(batch: Batch) -> bool:
    return all(callback.state == "delivered" for callback in batch.status().callbacks)

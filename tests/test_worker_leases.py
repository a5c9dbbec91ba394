"""Workers that live: paused, shut down properly, or cut off from the store like all others."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.testing.server import embedded_server
from tests.support.servers import running_worker, wait_until

LEASE_SECONDS = 5  # as in `proj_lost`
QUICK = ("--without-mingle", "--without-gossip", "--without-heartbeat")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def broker_url() -> Iterator[str]:
    """Start a broker beside the store, because tests stop the store."""
    with embedded_server() as url:
        yield url


@pytest.fixture
def app(make_app: Callable[..., Celery], broker_url: str) -> Celery:
    return make_app(broker=broker_url, task_default_queue="celery")


@pytest.fixture
def broker(broker_url: str) -> Iterator[Redis]:
    client = Redis.from_url(broker_url)
    yield client
    client.close()


def runs(broker: Redis, key: str) -> int:
    return int(broker.get(f"runs:{key}") or 0)


def start_nap(app: Celery, broker: Redis, queue: str, seconds: float) -> Batch:
    """Let a worker run a member; wait until the message is acknowledged."""
    key = uuid4().hex
    batch = Batch(app=app)
    batch.add(app.signature("lost.nap", (key, seconds), queue=queue))
    wait_until(lambda: runs(broker, key) and not broker.hlen("unacked"), what="the run")
    return batch


def test_a_worker_that_was_only_stopped_is_given_up_and_its_success_wins(
    server_url: str, broker_url: str, app: Celery, broker: Redis, redis: Redis
) -> None:
    settings = {"app": "proj_lost", "BATCHES_TEST_BROKER": broker_url}
    with (
        running_worker(server_url, "prefork", "-Q", "stopped", *QUICK, **settings) as stopped,
        running_worker(server_url, "prefork", "-Q", "other", *QUICK, **settings),
    ):
        batch = start_nap(app, broker, "stopped", 12)
        os.killpg(stopped.pid, signal.SIGSTOP)
        try:
            status = batch.join(timeout=30)
            assert (status.state, status.failure_info[0].task) == ("dead", "lost.nap")
            wait_until(lambda: redis.zcard("batches:workers") == 1)
        finally:
            os.killpg(stopped.pid, signal.SIGCONT)
        assert batch.join(timeout=30, event="success").dead == 0
        wait_until(lambda: redis.zcard("batches:workers") == 2, what="the stopped worker's next beat")
        app.control.shutdown()
        wait_until(lambda: redis.keys("batches:worker*") == [], what="an end in good order")


def test_nobody_is_lost_where_the_store_was_away_for_all_and_no_task_hangs(
    server_url: str, broker_url: str, app: Celery, broker: Redis, make_app: Callable[..., Celery]
) -> None:
    with embedded_server() as store_url, Redis.from_url(store_url) as store:
        pid = store.info("server")["process_id"]
        own = make_app(broker=broker_url, batches_backend_url=store_url, task_default_queue="celery")
        settings = {"app": "proj_lost", "BATCHES_TEST_BROKER": broker_url}
        with (
            running_worker(store_url, "prefork", "-Q", "one", *QUICK, **settings),
            running_worker(store_url, "threads", "-Q", "two", *QUICK, **settings),
        ):
            batches = [start_nap(own, broker, queue, 3 * LEASE_SECONDS) for queue in ("one", "two")]
            began = time.monotonic()
            os.kill(pid, signal.SIGSTOP)
            try:
                keys = {queue: uuid4().hex for queue in ("one", "two")}
                for queue, key in keys.items():
                    own.send_task("lost.ok", (key,), queue=queue)
                wait_until(lambda: all(runs(broker, key) for key in keys.values()), what="the other tasks")
                wait_until(lambda: time.monotonic() - began > 1.6 * LEASE_SECONDS, what="the lease's end")
            finally:
                os.kill(pid, signal.SIGCONT)
            for batch in batches:
                status = batch.join(timeout=40)
                assert (status.state, status.death_at) == ("success", None)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_member_that_is_acknowledged_late_leaves_no_record(
    server_url: str, broker_url: str, app: Celery, redis: Redis, pool: str
) -> None:
    """Nothing is recorded of it, so nobody would remove a note of its retry or of its successor."""
    late = app.signature("lost.late", (uuid4().hex,), immutable=True)
    with running_worker(server_url, pool, *QUICK, app="proj_lost", BATCHES_TEST_BROKER=broker_url):
        batch = Batch(app=app)
        batch.add(late | late.clone())
        assert batch.join(timeout=30, event="success").total == 2
        assert [redis.hgetall(key) for key in redis.keys("batches:worker:*")] == []

"""After `kill -9` of whole workers, members end or run again, and callbacks are delivered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, Batches
from tests.support.servers import close_store, kill, running_worker, wait_until

POOLS = ("prefork", "threads", "gevent", "solo")
QUICK = ("--without-mingle", "--without-gossip", "--without-heartbeat")
KEEPS_UNTIL_THE_END = "solo"  # it acknowledges a task only after its end

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def redis(server_url: str) -> Iterator[Redis]:
    client = Redis.from_url(server_url)
    client.flushall()
    yield client
    immortal = [key for key in client.scan_iter("batches*") if client.ttl(key) == -1]
    client.close()
    assert not immortal


@pytest.fixture(scope="module")
def app(server_url: str) -> Iterator[Celery]:
    app = Celery("tests", broker=server_url, backend=None, set_as_current=False)
    app.conf.update(batches_backend_url=server_url, batches_callback_tasks=["lost.nap", "lost.nap_late"])
    Batches(app)
    yield app
    app.close()
    close_store(app)


@dataclass
class Killed:
    """The members that ran when the workers were killed."""

    batches: dict[str, Batch] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def start(self, app: Celery, name: str, task: str, queue: str) -> None:
        self.keys[name] = f"{name}-{uuid4().hex[:8]}"
        self.batches[name] = Batch(name, app=app)
        self.batches[name].add(app.signature(task, (self.keys[name],), queue=queue))

    def start_chain(self, app: Celery, name: str, task: str, queue: str) -> None:
        self.keys[name] = f"{name}-{uuid4().hex[:8]}"
        self.batches[name] = Batch(name, app=app)
        following = app.signature("lost.ok", ("next",), queue="parked", immutable=True)
        self.batches[name].add(app.signature(task, (self.keys[name],), queue=queue) | following)

    def start_callback(self, app: Celery, name: str, task: str, queue: str) -> None:
        self.keys[name] = f"{name}-{uuid4().hex[:8]}"
        callback = app.signature(task, (self.keys[name],), queue=queue, immutable=True)
        self.batches[name] = Batch(name, app=app).on("success", callback)
        self.batches[name].seal()

    def runs(self, redis: Redis, name: str) -> int:
        return int(redis.get(f"runs:{self.keys[name]}") or 0)


def marked(redis: Redis) -> int:
    return sum(redis.hlen(key) for key in redis.scan_iter("batches:worker:*"))


# First, because the worker of the other tests would hold the sweeper's lock with other settings.
def test_a_lost_member_and_its_chain_run_again_where_the_setting_says_so(
    server_url: str, app: Celery, redis: Redis
) -> None:
    keys = [uuid4().hex[:8] for _ in range(3)]
    first, second, alone = (app.signature("lost.nap", (key,), queue="again", immutable=True) for key in keys)
    batch = Batch(app=app)
    redis.set(f"runs:{keys[1]}", 1, ex=600)  # the second link does not take long
    with batch:
        (first | second).delay()
        alone.delay()
    options = ("-Q", "again", *QUICK)
    settings = {"app": "proj_lost", "BATCHES_TEST_LOST": "resend"}
    with running_worker(server_url, "prefork", *options, **settings) as worker:
        wait_until(
            lambda: redis.get(f"runs:{keys[0]}") and redis.get(f"runs:{keys[2]}"), what="the first runs"
        )
        wait_until(lambda: marked(redis) == 2)
        kill(worker)
    with running_worker(server_url, "prefork", *options, **settings):
        status = batch.join(timeout=30, event="success")
    assert (status.total, status.succeeded, status.failures, status.death_at) == (3, 3, 0, None)
    assert [int(redis.get(f"runs:{key}")) for key in keys] == [2, 2, 2]


@pytest.fixture(scope="module")
def killed(server_url: str, app: Celery, redis: Redis) -> Iterator[Killed]:
    """Kill a worker of every pool while it runs a member; then start one worker."""
    killed = Killed()
    with ExitStack() as stack:
        for pool in POOLS:
            killed.start(app, pool, "lost.nap", pool)
        killed.start(app, "late", "lost.nap_late", "prefork")
        killed.start(app, "retry", "lost.nap_at_retry", "prefork")
        killed.start(app, "gone-on", "lost.hang_at_retry", "prefork")
        killed.start_chain(app, "chain", "lost.hang_after", "prefork")
        killed.start_callback(app, "callback", "lost.nap", "prefork")
        killed.start_callback(app, "callback-late", "lost.nap_late", "prefork")
        workers = [
            stack.enter_context(
                running_worker(server_url, pool, "-Q", pool, "-c", "8", *QUICK, app="proj_lost")
            )
            for pool in POOLS
        ]
        wait_until(lambda: all(killed.runs(redis, name) for name in killed.keys), what="the first runs")
        wait_until(lambda: redis.hlen("unacked") == 3, what="the acknowledgements")  # solo's, and the late
        wait_until(lambda: marked(redis) == 8)  # not those two
        for worker in workers:
            kill(worker)
    every_queue = ",".join(POOLS)
    with running_worker(server_url, "prefork", "-Q", every_queue, *QUICK, app="proj_lost"):
        yield killed


@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool != KEEPS_UNTIL_THE_END])
def test_a_member_whose_message_was_acknowledged_is_dead_and_the_batch_ends(
    killed: Killed, pool: str
) -> None:
    status = killed.batches[pool].join(timeout=30)
    (failure,) = status.failure_info
    assert (status.state, status.dead, status.failures) == ("dead", 1, 1)
    assert (failure.error_class, failure.retries) == ("billiard.exceptions.WorkerLostError", 0)


def test_a_member_lost_in_its_second_attempt_is_dead_at_that_attempt(killed: Killed) -> None:
    status = killed.batches["retry"].join(timeout=30)
    (failure,) = status.failure_info
    assert (status.state, failure.retries) == ("dead", 1)
    assert failure.error_class == "billiard.exceptions.WorkerLostError"


@pytest.mark.parametrize("name", ["callback", "callback-late"])
def test_a_callback_is_run_by_another_worker(killed: Killed, redis: Redis, name: str) -> None:
    callbacks = killed.batches[name]
    wait_until(lambda: callbacks.status().callbacks[0].state == "delivered")
    assert (killed.runs(redis, name), callbacks.status().callbacks[0].attempts) == (2, 2)


def test_a_dead_member_can_be_sent_again_by_hand(killed: Killed, app: Celery, redis: Redis) -> None:
    batch = killed.batches["threads"]
    batch.join(timeout=30)
    assert batch.status().unsendable == {}
    assert Batch.get(batch.bid, app=app).retry() == 1
    assert batch.join(timeout=30, event="success").succeeded == 1
    assert killed.runs(redis, "threads") == 2


def test_what_was_not_acknowledged_comes_back_from_the_broker(
    killed: Killed, app: Celery, redis: Redis
) -> None:
    names = ["late", KEEPS_UNTIL_THE_END]
    killed.batches["prefork"].join(timeout=30)  # so the dead have been looked at
    assert [killed.batches[name].status().failures for name in names] == [0, 0]
    with app.connection_for_write(transport_options={"visibility_timeout": 0}) as connection:
        channel = connection.default_channel
        lost = redis.zrange(channel.unacked_index_key, 0, -1)  # later tasks have other tags

        def restored() -> bool:  # it does nothing while another worker does it
            channel.qos.restore_visible(num=1000, interval=1)
            return not any(redis.zscore(channel.unacked_index_key, tag) for tag in lost)

        wait_until(restored, what="the broker's giving back")
    for name in names:
        assert killed.batches[name].join(timeout=30).state == "success"
        assert killed.runs(redis, name) >= 2, "a broker may give back more than once what is not acknowledged"


def test_a_batch_waits_for_what_its_lost_members_had_published(killed: Killed, server_url: str) -> None:
    killed.batches["prefork"].join(timeout=30)  # so the dead have been looked at
    chain, gone_on = killed.batches["chain"], killed.batches["gone-on"]
    wait_until(lambda: chain.status().dead == 1)
    assert (chain.status().total, chain.status().finish_at) == (2, None)
    assert gone_on.status().failures == 0
    with running_worker(server_url, "solo", "-Q", "parked", *QUICK, app="proj_lost"):
        status = chain.join(timeout=30)
        assert (status.succeeded, status.dead) == (1, 1)
        assert gone_on.join(timeout=30, event="success").death_at is None


def test_nothing_of_the_lost_workers_is_left(killed: Killed, redis: Redis) -> None:
    killed.batches["prefork"].join(timeout=30)
    wait_until(lambda: redis.zcard("batches:workers") == 1)
    wait_until(lambda: marked(redis) == 0)

"""Whole batches through real workers: every pool, every broker."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from celery import Celery, chain, group
from redis import Redis

from celery_batches_notify import Batch
from tests.support.servers import Ear, need, rabbitmq_url, running_worker, wait_until

POOLS = ["prefork", "threads", "solo", "gevent"]


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest, server_url: str) -> Iterator[str]:
    with running_worker(server_url, request.param):
        yield request.param


@pytest.fixture(scope="module")
def prefork(server_url: str) -> Iterator[None]:
    with running_worker(server_url, "prefork"):
        yield


@pytest.fixture
def redis(server_url: str) -> Iterator[Redis]:
    """Return a client of the server, which is not flushed because workers use it."""
    client = Redis.from_url(server_url)
    client.delete("notes")
    yield client
    immortal = [key for key in client.scan_iter("batches*") if client.ttl(key) == -1]
    client.close()
    assert not immortal


@pytest.fixture
def app(make_app: Callable[..., Celery], server_url: str) -> Celery:
    from tests.projects.proj_tasks import declare_tasks

    app = make_app(broker=server_url, task_default_queue="celery")
    declare_tasks(app)
    return app


def notes(redis: Redis) -> list[str]:
    return [note.decode() for note in redis.lrange("notes", 0, -1)]


@pytest.fixture
def ear(redis: Redis) -> Iterator[Ear]:
    ear = Ear(redis)
    yield ear
    ear.close()


@pytest.mark.timeout(300)
def test_twenty_batches_of_200_members_count_exactly_and_fire_once(
    pool: str, app: Celery, redis: Redis, ear: Ear
) -> None:
    draw = random.Random(1)
    batches = []
    for i in range(20):
        batch = Batch(f"batch {i}", app=app)
        for event in ("death", "complete", "finish", "success"):
            batch.on(event, app.signature("proj.callback", (event,)))
        kinds = ["ok"] * 200 if i % 4 == 0 else draw.choices(["ok", "fail", "retry"], [8, 1, 1], k=200)
        with batch:
            for kind in kinds:
                if kind == "retry":
                    app.tasks["proj.succeed_at"].delay(draw.choice([2, 3]))
                else:
                    app.tasks[f"proj.{kind}"].delay(kind)
        batches.append((batch, Counter(kinds)))
    for batch, kinds in batches:
        status = batch.join(timeout=240)
        assert (status.total, status.succeeded, status.dead) == (200, 200 - kinds["fail"], kinds["fail"])
        assert status.state == ("dead" if kinds["fail"] else "success")
    ear.listen()
    for batch, kinds in batches:
        tokens = ear.tokens[batch.bid]
        assert tokens.count("+") == 200 - kinds["fail"]
        assert tokens.count("-") >= kinds["fail"] + kinds["retry"]
        assert tokens.count("!") == 1
        assert tokens.count("$") == (kinds["fail"] == 0)
        if not kinds["fail"] and not kinds["retry"]:
            assert tokens == "+" * 200 + "!$"
        expected = (
            ["death"] * (kinds["fail"] > 0) + ["complete", "finish"] + ["success"] * (kinds["fail"] == 0)
        )
        wait_until(
            lambda b=batch, e=expected: [c.event for c in b.status().callbacks if c.state == "delivered"] == e
        )
        told = [n.split()[2] for n in notes(redis) if n.startswith(f"callback {batch.bid}")]
        assert sorted(told) == sorted(expected)


def test_every_ending_of_the_first_rows_leaves_its_state(pool: str, app: Celery, ear: Ear) -> None:
    def run(task: str, *args: object, **options: object) -> tuple[str, str]:
        batch = Batch(app=app)
        batch.add(app.signature(f"proj.{task}", args, **options))
        status = batch.join(timeout=30)
        ear.listen()
        reason = status.failure_info[0].error_class if status.failure_info else ""
        return f"{status.state} {ear.tokens[batch.bid]}", reason

    assert run("ok") == ("success +!$", "")
    assert run("fail") == ("dead -!", "ValueError")
    state, reason = run("succeed_at", 2)
    assert (state.replace("!", "", 1), reason) == ("success -+$", "")
    state, reason = run("fail_twice")
    assert (state.replace("!", "", 1), reason) == ("dead --", "KeyError")
    assert run("ok", expires=-1) == ("dead -!", "celery.exceptions.TaskRevokedError")


def test_a_member_revoked_before_it_ran_is_dead(pool: str, app: Celery) -> None:
    batch = Batch(app=app)
    (result,) = batch.add(app.signature("proj.ok", countdown=3))
    app.control.revoke(result.id)
    status = batch.join(timeout=30)
    assert (status.dead, status.failure_info[0].error_message) == (1, "revoked")


def test_a_task_that_no_worker_has_is_dead(pool: str, app: Celery) -> None:
    with Batch(app=app) as batch:
        app.send_task("proj.missing")
    status = batch.join(timeout=30)
    assert (status.dead, status.failure_info[0].task) == (1, "proj.missing")


def test_callbacks_of_all_kinds_are_called_with_the_status_first(
    prefork: None, app: Celery, redis: Redis
) -> None:
    silent, told = app.tasks["proj.silent"], app.tasks["proj.callback"]
    batch = Batch(app=app)
    batch.on("success", told.s("plain")).on("success", silent.si("alone"))
    batch.on("success", chain(told.s("chained"), silent.si("link")))
    batch.on("success", group(told.s("one"), told.s("two")))
    batch.add(app.signature("proj.ok"))
    batch.join(timeout=30)
    expected = ["chained", "one", "plain", "two"]
    wait_until(lambda: len(notes(redis)) == 6)
    heard = notes(redis)
    assert sorted(n.split()[2] for n in heard if n.startswith("callback")) == expected
    assert all(n.endswith("success 1 1") for n in heard if n.startswith("callback"))
    assert sorted(n for n in heard if n.startswith("silent")) == ["silent alone", "silent link"]


def test_a_callback_that_fails_for_good_is_given_up_and_the_batch_stands(prefork: None, app: Celery) -> None:
    batch = Batch(app=app).on("success", app.tasks["proj.fail"].s())
    batch.add(app.signature("proj.ok"))
    assert batch.join(timeout=30).state == "success"
    wait_until(lambda: batch.status().callbacks[0].state == "given_up")


def test_a_callback_knows_no_current_batch_and_a_member_does(
    prefork: None, app: Celery, redis: Redis
) -> None:
    batch = Batch(app=app).on("success", app.tasks["proj.which_batch"].s())
    batch.add(app.signature("proj.which_batch"))
    batch.join(timeout=30)
    wait_until(lambda: len(notes(redis)) == 2)
    assert notes(redis) == [f"which {batch.bid}", "which None"]


def test_a_running_member_adds_to_its_batch(prefork: None, app: Celery) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["proj.add_more"].s(5))
    status = batch.join(timeout=30)
    assert (status.total, status.succeeded, status.state) == (6, 6, "success")


def test_batches_opened_inside_a_members_batch_are_its_children(prefork: None, app: Celery) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["proj.nest"].s(3, 4))
    status = batch.join(timeout=60, event="success")
    assert (status.total, status.succeeded, status.children) == (4, 4, 3)
    children = [b.status() for b in Batch.all(app=app) if b.description == "child of 3"]
    assert [c.parent_bid for c in children] == [batch.bid] * 3
    assert {(c.total, c.state) for c in children} == {(4, "success")}


def test_dead_members_run_again_and_succeed(prefork: None, app: Celery) -> None:
    batch = Batch(app=app)
    with batch:
        for i in range(5):
            app.tasks["proj.fail_once"].delay(f"{batch.bid}-{i}")
    assert batch.join(timeout=30).dead == 5
    assert batch.retry() == 5
    status = batch.join(timeout=30, event="success")
    assert (status.succeeded, status.failures, status.failure_info) == (5, 0, ())


def test_the_last_part_of_a_canvas_runs_again_under_the_id_of_the_task_it_replaced(
    prefork: None, app: Celery
) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["proj.replace_and_fail_once"].s(batch.bid))
    assert batch.join(timeout=30).dead == 1
    assert batch.retry() == 1
    status = batch.join(timeout=30, event="success")
    assert (status.total, status.succeeded, status.failures) == (3, 3, 0)


def test_cancel_discards_what_waits_and_what_arrives(pool: str, app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    for event in ("cancel", "complete", "finish"):
        batch.on(event, app.tasks["proj.callback"].s(event))
    with batch:
        app.tasks["proj.watch_cancel"].delay(20)
        for _ in range(20):
            app.tasks["proj.slow"].delay(1)
        app.tasks["proj.slow"].apply_async((1,), countdown=4)
    batch.cancel()
    status = batch.join(timeout=60)
    assert status.state == "cancelled"
    assert (status.succeeded + status.dead, status.death_at) == (22, None)
    # A thread pool has started prefetched tasks, which Celery cannot revoke there either.
    assert status.dead >= (1 if pool == "threads" else 15)
    assert {f.error_message for f in status.failure_info} <= {"cancelled", "revoked"}
    wait_until(lambda: {c.state for c in batch.status().callbacks} == {"delivered"}, what="every callback")


@pytest.mark.parametrize("pool_name", ["prefork", "gevent"])
def test_cancel_ends_running_members_where_the_pool_can(pool_name: str, app: Celery, server_url: str) -> None:
    with running_worker(server_url, pool_name, "-Q", "alone"):
        batch = Batch(app=app)
        (result,) = batch.add(app.tasks["proj.slow"].s(60).set(queue="alone"))
        store = app._batches_extension.engine.store
        wait_until(lambda: any(result.id in marks for *_, marks in store.read_workers()), what="the run")
        batch.cancel(terminate=True)
        status = batch.join(timeout=30)
        assert (status.dead, status.death_at) == (1, None)


def test_a_stranger_with_a_batchs_mark_changes_nothing(prefork: None, app: Celery) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["proj.slow"].s(10))
    sender = app._batches_extension.engine.sender
    message = app.amqp.create_task_message("11111111-1111-1111-1111-111111111111", "proj.ok", (), {})
    message.headers["batches"] = {"bid": batch.bid, "index": 0}
    with app.producer_or_acquire() as producer:
        sender.send(producer, "proj.ok", message)
    app.send_task("proj.ok").id  # noqa: B018
    assert batch.status().succeeded == 0
    assert batch.join(timeout=30).succeeded == 1


def test_reports_for_a_deleted_batch_leave_no_key_and_no_failed_task(
    prefork: None, app: Celery, redis: Redis
) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["proj.slow"].s(0.5), app.signature("proj.silent", ("after",)))
    batch.delete()
    wait_until(lambda: notes(redis) == ["silent after"])
    other = Batch(app=app)
    other.add(app.signature("proj.ok"))
    other.join(timeout=30)
    assert redis.keys(f"*{batch.bid}*") == []


@pytest.mark.parametrize("pool_name", ["prefork", "threads"])
def test_it_works_with_a_result_backend_too(
    pool_name: str, make_app: Callable[..., Celery], server_url: str, redis: Redis
) -> None:
    from tests.projects.proj_tasks import declare_tasks

    app = make_app(broker=server_url, result_backend=server_url, task_default_queue="with-results")
    declare_tasks(app)
    batch = Batch(app=app)
    with running_worker(server_url, pool_name, "-Q", "with-results", BATCHES_TEST_BACKEND=server_url):
        with batch:
            results = [app.tasks["proj.ok"].delay(i) for i in range(20)]
        assert batch.join(timeout=30).state == "success"
        assert [r.get(timeout=10) for r in results] == list(range(20))
        unserialisable = Batch(app=app)
        unserialisable.add(app.tasks["proj.unserialisable"].s())
        assert unserialisable.join(timeout=30).dead == 1
    app.backend.result_consumer.stop()
    app.backend.client.close()


def test_it_works_with_rabbitmq_beside_a_redis_store(
    make_app: Callable[..., Celery], server_url: str, redis: Redis
) -> None:
    from tests.projects.proj_tasks import declare_tasks

    broker = rabbitmq_url()
    need("RabbitMQ", broker)
    app = make_app(broker=broker, task_default_queue="celery")
    declare_tasks(app)
    with running_worker(server_url, "prefork", BATCHES_TEST_BROKER=broker):
        batch = Batch(app=app).on("finish", app.tasks["proj.callback"].s("finish"))
        with batch:
            for i in range(100):
                app.tasks["proj.ok"].delay(i)
            app.tasks["proj.fail"].delay()
        status = batch.join(timeout=60)
        assert (status.succeeded, status.dead) == (100, 1)
        wait_until(lambda: batch.status().callbacks[0].state == "delivered")
    app.pool.force_close_all()


def test_a_worker_refuses_to_start_with_a_wrong_setting(server_url: str) -> None:
    refused = pytest.raises(AssertionError, match="batches_linger must be at least 30")
    with refused, running_worker(server_url, "solo", BATCHES_TEST_LINGER="1"):
        pass


def test_a_worker_warns_of_an_eviction_policy_that_drops_batches(server_url: str, redis: Redis) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with running_worker(server_url, "solo") as worker:
            log = worker.log.read_text()
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
    assert "the store's maxmemory-policy is allkeys-lru" in log
    assert "set it to noeviction" in log


def test_what_a_dead_worker_left_behind_is_published_by_another(
    app: Celery, redis: Redis, server_url: str
) -> None:
    """A kill between the script and the publishing leaves only the outbox."""
    batch = Batch(app=app).on("success", app.tasks["proj.callback"].s("late"))
    (result,) = batch.add(app.signature("proj.ok", queue="nobody"))
    from celery_batches_notify.membership import Membership, Outcome, State

    store = app._batches_extension.engine.store
    member = Membership(bid=batch.bid, index=0, task_id=result.id)
    assert store.record_outcome(member, Outcome(state=State.SUCCEEDED)).entries == ["success:0"]
    with running_worker(server_url, "prefork") as worker:
        wait_until(lambda: batch.status().callbacks[0].state == "delivered", seconds=30)
        assert notes(redis) == [f"callback {batch.bid} late success 1 1"]
        assert worker.poll() is None

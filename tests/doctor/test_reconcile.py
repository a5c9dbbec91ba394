"""Reconciling: the result backend and the workers make good what the store lost, and never too early."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest
from celery import Celery, chain, chord, group, states
from celery.exceptions import TimeLimitExceeded
from redis import Redis

from celery_batches_notify import Batch, ConfigurationError, NoSuchBatch
from celery_batches_notify.cli.doctor import examine
from celery_batches_notify.cli.output import Output
from celery_batches_notify.doctor import reconcile
from celery_batches_notify.doctor.diagnosis import find_complaints
from celery_batches_notify.doctor.reconcile import Repairs, reconcile_all
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.testing.server import embedded_server
from tests.support.acl import url_as
from tests.support.apps import open_app
from tests.support.servers import need, running_worker, wait_until

SUCCEEDED = Outcome(state=State.SUCCEEDED)


@pytest.fixture(params=["redis", "file"])
def app(request: pytest.FixtureRequest, redis: Redis, server_url: str, tmp_path: Path) -> Iterator[Celery]:
    """An app with a result backend of each kind: one that reads many at once, one that reads files."""
    backend = server_url if request.param == "redis" else f"file://{tmp_path}"
    with open_app(server_url, result_backend=backend) as app:
        yield app


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two looks without a pause, at batches that moved just now: here nothing moves meanwhile."""
    monkeypatch.setattr(reconcile, "BETWEEN_LOOKS_SECONDS", 0)
    monkeypatch.setattr(reconcile, "QUIET_SECONDS", 0)


def started(app: Celery, number: int, **options: object) -> tuple[Batch, list[str]]:
    """A sealed batch of which nobody has reported anything."""
    batch = (
        Batch(app=app, **options)
        .on("complete", app.signature("proj.callback"))
        .on("success", app.signature("proj.callback"))
    )
    return batch, [result.id for result in batch.add(*(app.signature("proj.ok") for _ in range(number)))]


def counts(repairs: Repairs) -> dict[str, int]:
    return {name: count for name, count in repairs.counts.items() if count}


def test_members_get_the_state_of_their_results(app: Celery) -> None:
    batch, ids = started(app, 6)
    app.backend.mark_as_done(ids[0], 1)
    app.backend.mark_as_failure(ids[1], ValueError("stored words"))
    app.backend.mark_as_retry(ids[2], KeyError("again"))
    app.backend.mark_as_revoked(ids[3])
    app.backend.store_result(ids[4], None, states.STARTED)
    assert counts(batch.reconcile()) == {"succeeded": 1, "dead": 2, "failing": 1}
    status = batch.status()
    assert (status.succeeded, status.dead, status.failing, status.pending) == (1, 2, 1, 5)
    told = {f.error_class.rpartition(".")[2]: f.error_message for f in status.failure_info}
    assert told == {"ValueError": "stored words", "KeyError": "'again'", "TaskRevokedError": "revoked"}
    assert counts(batch.reconcile()) == {}


def test_events_fire_once_all_members_have_results_and_under_their_ids(app: Celery, redis: Redis) -> None:
    batch, ids = started(app, 250)
    for task_id in ids:
        app.backend.mark_as_done(task_id, None)
    redis.delete("celery")
    assert batch.reconcile().succeeded == 250
    assert batch.status().state == "success"
    queued = [json.loads(message)["headers"]["id"] for message in redis.lrange("celery", 0, -1)]
    assert sorted(queued) == [f"cb_{batch.bid}_complete_0", f"cb_{batch.bid}_success_0"]


def test_ten_at_a_time_count_each_member_once(app: Celery, redis: Redis) -> None:
    batch, ids = started(app, 120)
    for k, task_id in enumerate(ids):
        if k % 3:
            app.backend.mark_as_done(task_id, None)
        else:
            app.backend.mark_as_failure(task_id, ValueError())
    redis.delete("celery")
    with ThreadPoolExecutor(10) as threads:
        repairs = list(threads.map(lambda _: batch.reconcile(), range(10)))
    assert sum(r.succeeded for r in repairs) == 80
    assert sum(r.dead for r in repairs) == 40
    status = batch.status()
    assert (status.succeeded, status.dead, status.pending) == (80, 40, 40)
    queued = [json.loads(message)["headers"]["id"] for message in redis.lrange("celery", 0, -1)]
    assert queued == [f"cb_{batch.bid}_complete_0"]


def test_a_failure_of_an_earlier_round_says_nothing_of_a_member_that_was_sent_again(app: Celery) -> None:
    batch, (task_id,) = started(app, 1)
    app.backend.mark_as_failure(task_id, ValueError())
    store = app._batches_extension.engine.store
    died = Outcome(state=State.DEAD, reason="failed", resend=_call(task_id), unsendable="")
    store.record_outcome(Membership(bid=batch.bid, index=0, task_id=task_id), died)
    assert batch.retry() == 1
    assert counts(batch.reconcile()) == {}
    assert batch.status().failing == 1
    app.backend.mark_as_done(task_id, None)
    assert batch.reconcile().succeeded == 1


def _call(task_id: str) -> str:
    return json.dumps({"id": task_id, "task": "proj.ok", "args": [], "kwargs": {}, "options": {}})


def test_a_hard_limit_says_nothing_where_a_task_may_run_again_after_it(app: Celery) -> None:
    batch, (task_id,) = started(app, 1)
    app.backend.mark_as_failure(task_id, TimeLimitExceeded(1))
    app.tasks["proj.slow"].acks_late, app.tasks["proj.slow"].acks_on_failure_or_timeout = True, False
    app.tasks["proj.slow"].acks_on_timeout = False
    assert counts(batch.reconcile()) == {}
    app.tasks["proj.slow"].acks_late = False
    assert counts(batch.reconcile())["dead"] == 1


def test_a_task_that_celery_gave_back_to_the_broker_is_no_failure(app: Celery) -> None:
    from celery.exceptions import Retry

    batch, (task_id,) = started(app, 1)
    app.backend.mark_as_retry(task_id, Retry("cancelled by Celery"))
    assert counts(batch.reconcile()) == {}


def test_a_dead_member_whose_result_is_a_success_has_succeeded(app: Celery) -> None:
    batch, (task_id,) = started(app, 1)
    store = app._batches_extension.engine.store
    store.record_outcome(
        Membership(bid=batch.bid, index=0, task_id=task_id), Outcome(state=State.DEAD, reason="lost")
    )
    app.backend.mark_as_done(task_id, None)
    assert batch.reconcile().succeeded == 1
    assert batch.status().state == "success"


def test_without_a_result_backend_it_says_so(redis: Redis, server_url: str) -> None:
    with open_app(server_url) as app:
        batch, _ = started(app, 1)
        repairs = batch.reconcile()
        assert counts(repairs) == {}
        assert "no result backend" in repairs.notes[0]


def test_a_result_backend_that_is_away_is_told_and_the_rest_is_repaired(
    redis: Redis, server_url: str
) -> None:
    with open_app(server_url) as app, open_app(server_url, result_backend="redis://127.0.0.1:1/0") as away:
        batch, _ = started(app, 1)
        redis.delete("batches:live")
        repairs = Batch.get(batch.bid, app=away).reconcile()
        assert repairs.listed == 1
        assert "the result backend does not answer" in repairs.notes[0]


# -- results of others that had the same id ----------------------------------------------------------


def calling(app: Celery, task_id: str) -> Batch:
    batch = Batch(app=app).on("success", app.signature("proj.callback"))
    batch.add(app.signature("proj.ok").set(task_id=task_id))
    return batch


@pytest.mark.parametrize("task_id", ["nightly-1", "00000000-0000-4000-8000-000000000001"])
@pytest.mark.parametrize("state", [states.SUCCESS, states.FAILURE, states.REVOKED])
def test_what_an_earlier_task_with_the_same_id_left_says_nothing(
    app: Celery, redis: Redis, task_id: str, state: str
) -> None:
    app.backend.store_result(task_id, None if state == states.SUCCESS else ValueError(), state)
    batch = calling(app, task_id)
    assert counts(batch.reconcile()) == {}
    assert (batch.status().state, batch.status().pending) == ("running", 1)
    app.backend.forget(task_id)  # Celery stores no result over a success
    app.backend.mark_as_done(task_id, None)
    assert counts(batch.reconcile()) == {"succeeded": 1}


def test_a_retry_of_whatever_time_is_believed_only_of_a_random_id(app: Celery) -> None:
    """Celery stores no time with it."""
    random, named = str(uuid.uuid4()), "nightly-1"
    app.backend.mark_as_retry(named, ValueError())
    app.backend.mark_as_retry(random, ValueError())
    assert counts(calling(app, named).reconcile()) == {}
    assert counts(calling(app, random).reconcile()) == {"failing": 1}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_a_time_that_a_database_stored_without_its_zone_is_not_taken_for_a_later_one(
    redis: Redis, server_url: str, tmp_path: Path, zone: str
) -> None:
    need("SQLAlchemy", find_spec("sqlalchemy"))
    with open_app(server_url, result_backend=f"db+sqlite:///{tmp_path}/results.db", timezone=zone) as app:
        app.backend.mark_as_done("nightly-1", None)
        batch = calling(app, "nightly-1")
        assert counts(batch.reconcile()) == {}
        app.backend.forget("nightly-1")
        app.backend.mark_as_done("nightly-1", None)
        assert counts(batch.reconcile()) == {"succeeded": 1}


def test_the_doctor_finds_a_member_whose_id_has_an_older_result_where_it_is(app: Celery) -> None:
    app.backend.mark_as_done("nightly-1", None)
    batch = calling(app, "nightly-1")
    said = StringIO()
    examine(app, Output(said), bid=batch.bid, limit=10)
    assert "nightly-1: queued" in said.getvalue()
    with app.connection_for_write() as connection:
        connection.default_channel.queue_purge("celery")
    examine(app, Output(said), bid=batch.bid, limit=10)
    assert "nightly-1: vanished" in said.getvalue()


# -- canvas ---------------------------------------------------------------------------------------


def test_a_link_of_a_chain_is_not_the_end_of_it(app: Celery) -> None:
    with Batch(app=app) as batch:
        chain(app.signature("proj.ok", (1,)), app.signature("proj.ok", immutable=True)).delay()
    first = next(iter(batch._engine.store.walk_members(batch.bid, 1)))[0].id
    second = str(uuid.uuid4())

    def stored(task_id: str, *children: str) -> None:
        meta = {"status": "SUCCESS", "result": 1, "traceback": None, "task_id": task_id}
        meta["children"] = [((child, None), None) for child in children]
        app.backend.set(app.backend.get_key_for_task(task_id), app.backend.encode(meta))

    stored(first, second)
    assert counts(batch.reconcile()) == {"unsure": 1}
    assert batch.status().succeeded == 0
    stored(second)
    assert counts(batch.reconcile()) == {"succeeded": 1}
    assert batch.status().state == "success"


def test_a_part_of_a_group_in_a_canvas_is_left_alone_for_it_may_be_a_chords(app: Celery) -> None:
    with Batch(app=app) as batch:
        chord([app.signature("proj.ok")] * 2, app.signature("proj.ok")).delay()
    for member in next(iter(batch._engine.store.walk_members(batch.bid, 2))):
        meta = {"status": "SUCCESS", "result": 1, "traceback": None, "children": [], "group_id": "g"}
        app.backend.set(app.backend.get_key_for_task(member.id), app.backend.encode(meta))
    assert counts(batch.reconcile()) == {"unsure": 2}
    assert batch.status().complete_at is None


def test_a_plain_group_has_no_canvas(app: Celery) -> None:
    with Batch(app=app) as batch:
        results = group([app.signature("proj.ok")] * 2).delay()
    for result in results:
        app.backend.mark_as_done(result.id, None)
    assert batch.reconcile().succeeded == 2


# -- what the store lost --------------------------------------------------------------------------


def test_a_batch_that_the_lists_lost_is_on_them_again(app: Celery, redis: Redis) -> None:
    batch, _ = started(app, 1)
    redis.delete("batches:live", "batches:index")
    engine = app._batches_extension.engine
    assert [(bid, counts(r)) for bid, r in reconcile_all(engine)] == [(batch.bid, {"listed": 2})]
    assert [b.bid for b in Batch.all(app=app)] == [batch.bid]
    assert redis.zrange("batches:live", 0, -1) == [batch.bid.encode()]
    assert [(bid, counts(r)) for bid, r in reconcile_all(engine)] == [(batch.bid, {})]


def test_a_batch_that_cannot_be_read_does_not_stop_the_repair_of_others(app: Celery, redis: Redis) -> None:
    broken, newer, well = (started(app, 1)[0] for _ in range(3))
    redis.hset(f"batches:{{{broken.bid}}}", "total", "many")
    redis.hset(f"batches:{{{newer.bid}}}", "schema", 99)
    (task_id,) = (member.id for member in next(iter(well._engine.store.walk_members(well.bid, 1))))
    app.backend.mark_as_done(task_id, None)
    done = dict(reconcile_all(app._batches_extension.engine))
    assert done[broken.bid].notes == (f"{broken.bid} was not repaired (CorruptBatch)",)
    assert done[newer.bid].notes == (f"{newer.bid} was not repaired (SchemaTooNew)",)
    assert done[well.bid].succeeded == 1


def test_a_child_that_cannot_be_read_does_not_stop_the_repair_of_its_parent(
    app: Celery, redis: Redis
) -> None:
    parent, ids = started(app, 1, keep_open=True)
    child = Batch(app=app, parent=parent)
    child.add(app.signature("proj.ok"))
    redis.hset(f"batches:{{{child.bid}}}", "total", "many")
    app.backend.mark_as_done(ids[0], None)
    done = parent.reconcile()
    assert done.succeeded == 1
    assert f"{child.bid} was not repaired (CorruptBatch)" in done.notes


def test_the_user_of_the_documentation_may_reconcile_and_ask_the_doctor(
    redis: Redis, server_url: str, tmp_path: Path
) -> None:
    with open_app(
        server_url, batches_backend_url=url_as(server_url), result_backend=f"file://{tmp_path}"
    ) as app:
        try:
            batch, ids = started(app, 2)
            app.backend.mark_as_done(ids[0], None)
            redis.delete("batches:index")
            (done,) = dict(reconcile_all(app._batches_extension.engine)).values()
            assert counts(done) == {"succeeded": 1, "listed": 1}
            member = next(iter(batch._engine.store.walk_members(batch.bid, 2)))[1]
            assert batch._engine.store.write_off_members(batch.bid, [reconcile._give_up(member)]).count == 1
            assert list(find_complaints(app._batches_extension.engine)) == []
        finally:
            redis.execute_command("ACL", "DELUSER", "batches")


def test_a_batch_that_is_gone_leaves_the_lists(app: Celery, redis: Redis) -> None:
    batch, _ = started(app, 1)
    redis.delete(*redis.keys(f"batches:{{{batch.bid}}}*"))
    for name in ("index", "live"):
        redis.zincrby(f"batches:{name}", -61_000, batch.bid)
    with pytest.raises(NoSuchBatch):
        batch.reconcile()
    assert redis.zcard("batches:index") == redis.zcard("batches:live") == 0


def test_an_event_that_is_true_and_did_not_fire_fires(app: Celery, redis: Redis) -> None:
    batch, ids = started(app, 1)
    store = app._batches_extension.engine.store
    store.record_outcome(Membership(bid=batch.bid, index=0, task_id=ids[0]), SUCCEEDED)
    redis.hdel(f"batches:{{{batch.bid}}}", "complete_at", "success_at", "finish_at")
    redis.delete(f"batches:{{{batch.bid}}}:outbox")
    assert batch.reconcile().fired == 2
    assert batch.status().state == "success"
    assert batch.reconcile().fired == 0


def test_a_parent_hears_again_of_a_child_whose_end_it_lost(app: Celery, redis: Redis) -> None:
    parent = Batch(app=app, keep_open=True)
    child = Batch(app=app, parent=parent)
    (result,) = child.add(app.signature("proj.ok"))
    parent.seal()
    before = {key: redis.dump(key) for key in redis.keys(f"batches:{{{parent.bid}}}*")}
    store = app._batches_extension.engine.store
    store.record_outcome(Membership(bid=child.bid, index=0, task_id=result.id), SUCCEEDED)
    child._engine.publisher.publish(child.bid, store.claim_deliveries(child.bid))
    child.reconcile()
    assert parent.status().state == "success"
    for key, value in before.items():
        redis.restore(key, 600_000, value, replace=True)
    assert parent.status().state == "running"
    parent.reconcile()
    assert parent.status().state == "success"


@pytest.mark.parametrize("lost", [0, 1, 40, 100])
def test_after_a_failover_that_lost_reports_the_batch_succeeds_with_the_same_ids(
    redis: Redis, tmp_path: Path, lost: int
) -> None:
    """A replica that was promoted `lost` reports too early; the result backend kept its data."""
    with (
        embedded_server() as store_url,
        open_app(redis_url(redis), batches_backend_url=store_url, result_backend=f"file://{tmp_path}") as app,
    ):
        batch, ids = started(app, 100)
        store, client = app._batches_extension.engine.store, Redis.from_url(store_url)
        ran, snapshot = 0, {}
        for index, task_id in enumerate(ids):
            if index == len(ids) - lost:
                snapshot = {key: client.dump(key) for key in client.scan_iter()}
            app.backend.mark_as_done(task_id, None)
            recorded = store.record_outcome(
                Membership(bid=batch.bid, index=index, task_id=task_id), SUCCEEDED
            )
            app._batches_extension.engine.publisher.publish(batch.bid, recorded)
            ran += 1
        first = callbacks_in(redis)
        if lost:
            client.flushall()
            for key, value in snapshot.items():
                client.restore(key, 600_000, value)
        assert batch.status().succeeded == ran - lost
        assert (batch.status().complete_at is None) == bool(lost), "never early"
        assert batch.reconcile().succeeded == lost
        status = batch.status()
        assert (status.succeeded, status.total, status.state) == (100, 100, "success")
        assert callbacks_in(redis) == first * (2 if lost else 1), "fired again under the same ids"
        client.close()


def redis_url(redis: Redis) -> str:
    options = redis.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/{options['db']}"


def callbacks_in(redis: Redis) -> list[str]:
    """The ids of the callbacks in the queue, the first published first."""
    ids = [json.loads(message)["headers"]["id"] for message in redis.lrange("celery", 0, -1)]
    return [task_id for task_id in reversed(ids) if task_id.startswith("cb_")]


# -- vanished -------------------------------------------------------------------------------------


def test_members_that_nobody_knows_stay_waiting_unless_they_are_given_up(
    app: Celery, redis: Redis, impatient: None
) -> None:
    batch, _ = started(app, 3)
    redis.lrem("celery", 1, redis.lindex("celery", 0))
    assert counts(batch.reconcile()) == {}
    assert batch.status().dead == 0
    assert batch.reconcile(vanished="dead").vanished == 1
    status = batch.status()
    assert (status.dead, status.failure_info[0].error_class) == (1, "Vanished")
    assert batch.reconcile(vanished="dead").vanished == 0
    assert status.unsendable == {"its message is gone": 1}
    redis.delete("celery")
    with ThreadPoolExecutor(10) as threads:
        repairs = list(threads.map(lambda _: batch.reconcile(vanished="dead"), range(10)))
    assert sum(r.vanished for r in repairs) == 2
    assert batch.status().state == "dead"


def test_nobody_is_given_up_in_a_batch_that_moves_or_is_not_sealed(app: Celery, redis: Redis) -> None:
    batch, _ = started(app, 1)
    with Batch(app=app, keep_open=True) as unsealed:
        app.tasks["proj.ok"].delay()
    redis.delete("celery")
    for each, why in ((batch, "moved less than 60 s ago"), (unsealed, "is not sealed")):
        repairs = each.reconcile(vanished="dead")
        assert (repairs.vanished, each.status().dead) == (0, 0)
        assert why in repairs.notes[-1]


def test_nobody_is_given_up_where_the_broker_cannot_be_read(
    make_app: Callable[..., Celery], impatient: None
) -> None:
    app = make_app()
    app.task(str, name="proj.ok", shared=False)
    batch, _ = started_without_callbacks(app)
    repairs = batch.reconcile(vanished="dead")
    assert repairs.vanished == 0
    assert "cannot be read" in repairs.notes[-1]


def started_without_callbacks(app: Celery) -> tuple[Batch, list[str]]:
    batch = Batch(app=app)
    return batch, [result.id for result in batch.add(app.signature("proj.ok"))]


def test_a_member_that_reported_since_it_was_looked_for_is_not_written_off(app: Celery) -> None:
    batch, ids = started(app, 1)
    store = app._batches_extension.engine.store
    member = next(iter(store.walk_members(batch.bid, 1)))[0]
    lost = reconcile._give_up(member)
    store.record_outcome(Membership(bid=batch.bid, index=0, task_id=ids[0]), Outcome(state=State.FAILING))
    assert store.write_off_members(batch.bid, [lost]).count == 0
    assert batch.status().failing == 1


def test_a_word_that_is_none_is_refused(app: Celery) -> None:
    batch, _ = started(app, 1)
    with pytest.raises(ConfigurationError, match="leave, dead, resend"):
        batch.reconcile(vanished="again")


def test_a_delivery_whose_task_is_nowhere_is_published_again(app: Celery, redis: Redis) -> None:
    batch, ids = started(app, 1)
    app.backend.mark_as_done(ids[0], None)
    batch.reconcile()
    redis.delete("celery")
    a_while_ago = redis.time()[0] * 1000 - 600_000
    for entry in ("complete:0", "success:0"):
        redis.hset(f"batches:{{{batch.bid}}}:outbox", entry, f"published 1 {a_while_ago}")
    app.backend.mark_as_done(f"cb_{batch.bid}_complete_0", None)
    assert batch.reconcile().redriven == 1
    assert callbacks_in(redis) == [f"cb_{batch.bid}_success_0"]
    assert {c.event: (c.state, c.attempts) for c in batch.status().callbacks} == {
        "complete": ("delivered", 1),
        "success": ("published", 2),
    }
    assert batch.reconcile().redriven == 0


def test_a_worker_whose_reports_were_lost_is_made_good(redis: Redis, tmp_path: Path) -> None:
    url = redis_url(redis)
    with open_app(url, result_backend=f"file://{tmp_path}") as app:
        with running_worker(url, "threads", BATCHES_TEST_BACKEND=f"file://{tmp_path}"):
            batch, ids = started(app, 20)
            for task_id in ids:
                app.AsyncResult(task_id).get(timeout=20)
            wait_until(lambda: batch.status().state == "success")
        key = f"batches:{{{batch.bid}}}"
        redis.hset(key, mapping={"succeeded": 0})
        redis.hdel(key, "complete_at", "success_at", "finish_at", "retired")
        redis.delete(f"{key}:states", f"{key}:outbox")
        redis.setbit(f"{key}:states", 39, 0)
        redis.expire(f"{key}:states", 600)
        assert batch.reconcile().succeeded == 20
        assert batch.status().state == "success"


def test_a_chain_whose_reports_were_all_lost_is_counted_and_not_before_it_ended(
    redis: Redis, tmp_path: Path
) -> None:
    """The links ran; the store was put back to when nobody had reported, so it knows the first one only."""
    url = redis_url(redis)
    with open_app(url, result_backend=f"file://{tmp_path}") as app:
        with Batch(app=app).on("success", app.signature("proj.silent")) as batch:
            last = chain(*(app.signature("proj.ok", (k,), immutable=True) for k in range(3))).delay()
        key = f"batches:{{{batch.bid}}}"
        before = {name: redis.dump(name) for name in redis.scan_iter(f"{key}*")}
        with running_worker(url, "prefork", BATCHES_TEST_BACKEND=f"file://{tmp_path}"):
            last.get(timeout=20)
            wait_until(lambda: batch.status().state == "success")
            assert batch.status().total == 3
        for name in redis.scan_iter(f"{key}*"):
            redis.delete(name)
        for name, value in before.items():
            redis.restore(name, 600_000, value)
        assert batch.status().total == 1
        (tmp_path / f"celery-task-meta-{last.id}").rename(tmp_path / "kept")
        assert (repairs := batch.reconcile()).unsure == 1
        assert repairs.succeeded == 0
        assert batch.status().complete_at is None
        (tmp_path / "kept").rename(tmp_path / f"celery-task-meta-{last.id}")
        assert batch.reconcile().succeeded == 1
        assert batch.status().state == "success"


def test_reconciling_while_workers_run_changes_nothing(redis: Redis, tmp_path: Path) -> None:
    url = redis_url(redis)
    with open_app(url, result_backend=f"file://{tmp_path}") as app:
        batches = []
        for _ in range(10):
            with Batch(app=app).on("finish", app.signature("proj.callback")) as batch:
                chain(*(app.signature("proj.ok", (k,), immutable=True) for k in range(3))).delay()
                app.tasks["proj.succeed_at"].delay(2)
                for k in range(20):
                    app.tasks["proj.fail" if k == 7 else "proj.ok"].delay(k)
            batches.append(batch)
        with running_worker(url, "prefork", BATCHES_TEST_BACKEND=f"file://{tmp_path}"):

            def all_finished() -> bool:
                for batch in batches:
                    batch.reconcile(vanished="dead")
                return all(batch.status().finish_at for batch in batches)

            wait_until(all_finished)
            for batch in batches:
                status = batch.status()
                assert (status.total, status.succeeded, status.dead) == (24, 23, 1)
                assert status.failure_info[0].error_class == "ValueError"
            bids = {batch.bid for batch in batches}
            wait_until(lambda: {note.split()[1].decode() for note in redis.lrange("notes", 0, -1)} == bids)

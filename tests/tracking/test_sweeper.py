from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from celery import Celery
from redis import Redis
from servers import wait_until

from celery_batches_notify import Batch
from celery_batches_notify.model import Membership, Outcome, State
from celery_batches_notify.store.store import Store
from celery_batches_notify.tracking.sweeper import Sweeper

SUCCEEDED = Outcome(state=State.SUCCEEDED)


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app(batches_sweep_interval=0.05)
    app.task(told, name="told", shared=False)
    return app


def told(*_: object) -> None:
    """Be called back."""


@pytest.fixture
def store(app: Celery) -> Store:
    return app._batches_engine.engine.store


@pytest.fixture
def sweeper(app: Celery) -> Sweeper:
    return app._batches_engine.parts.sweeper


def fired_but_not_published(app: Celery, redis: Redis) -> Batch:
    """What a process leaves that dies right after the script."""
    batch = Batch(app=app).on("success", app.tasks["told"].s())
    batch._enrolment.open()
    batch._engine.store.seal_batch(batch.bid)
    redis.hset(f"batches:{{{batch.bid}}}:outbox", "success:0", "due 0 1")
    redis.hset(f"batches:{{{batch.bid}}}", "next_due", 1)
    return batch


def test_what_was_left_behind_is_published_once(app: Celery, redis: Redis, sweeper: Sweeper) -> None:
    batches = [fired_but_not_published(app, redis) for _ in range(250)]
    sweeper.sweep()
    sweeper.sweep()
    assert {(c.state, c.attempts) for b in batches for c in b.status().callbacks} == {("published", 1)}


def test_a_batch_that_is_over_leaves_the_list_and_a_late_report_brings_it_back(
    app: Celery, redis: Redis, store: Store, sweeper: Sweeper
) -> None:
    batch = Batch(app=app)
    (result,) = batch.add(app.tasks["told"].s())
    member = Membership(bid=batch.bid, index=0, task_id=result.id)
    store.record_outcome(member, Outcome(state=State.DEAD, reason="failed"))
    assert redis.zcard("batches:live") == 1
    sweeper.sweep()
    assert redis.zcard("batches:live") == 0
    assert store.record_outcome(member, Outcome(state=State.DEAD, reason="failed")).word == "repeated"
    assert redis.zcard("batches:live") == 0
    assert store.record_outcome(member, SUCCEEDED).word == "counted"
    assert redis.zcard("batches:live") == 1
    sweeper.sweep()
    assert redis.zcard("batches:live") == 0
    assert batch.status().state == "success"


@pytest.mark.parametrize("what", ["cancel", "death"])
def test_what_is_still_to_be_told_of_a_retired_batch_brings_it_back(
    app: Celery, redis: Redis, store: Store, sweeper: Sweeper, what: str
) -> None:
    batch = Batch(app=app).on(what, app.tasks["told"].s())
    (result,) = batch.add(app.tasks["told"].s())
    member = Membership(bid=batch.bid, index=0, task_id=result.id)
    store.record_outcome(member, Outcome(state=State.DEAD, reason="cancelled"))
    sweeper.sweep()
    assert redis.zcard("batches:live") == 0
    for _ in range(2):
        store.cancel_batch(batch.bid, terminate=False) if what == "cancel" else store.mark_death(batch.bid)
    redis.hset(f"batches:{{{batch.bid}}}:outbox", f"{what}:0", "due 0 1")  # and the process died here
    redis.hset(f"batches:{{{batch.bid}}}", "next_due", 1)
    sweeper.sweep()
    assert batch.status().callbacks[0].state == "published"


def test_a_running_batch_stays_on_the_list_and_one_that_is_gone_is_dropped(
    app: Celery, redis: Redis, sweeper: Sweeper
) -> None:
    running, gone = Batch(app=app), Batch(app=app)
    for batch in (running, gone):
        batch.add(app.tasks["told"].s())
    redis.delete(f"batches:{{{gone.bid}}}")
    sweeper.sweep()
    assert redis.zrange("batches:live", 0, -1) == [running.bid.encode()]


def test_a_batch_listed_anew_while_it_was_swept_is_kept(app: Celery, redis: Redis, store: Store) -> None:
    batch = Batch(app=app)
    batch.seal()
    (seen,) = store.walk_live()
    redis.zadd("batches:live", {batch.bid: seen.score + 5})
    store.retire_batch(seen)
    assert redis.zcard("batches:live") == 1


def test_an_open_delivery_keeps_its_batch_alive(app: Celery, redis: Redis, sweeper: Sweeper) -> None:
    batch = fired_but_not_published(app, redis)
    sweeper.sweep()
    keys = redis.keys(f"batches:{{{batch.bid}}}*")
    for key in keys:
        redis.pexpire(key, 600_000)
    sweeper.sweep()
    assert min(redis.ttl(key) for key in keys) > 86_400


def test_one_sweeper_works_at_a_time_and_another_takes_over(
    make_app: Callable[..., Celery], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of 30 s: a machine that stands still does not let go of it.
    monkeypatch.setattr("celery_batches_notify.tracking.sweeper.LOCK_INTERVALS", 300)
    sweepers = [make_app(batches_sweep_interval=0.1)._batches_engine.parts.sweeper for _ in range(2)]
    holders = set()
    for sweeper in sweepers:
        sweeper.start()
    try:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            holders.add(redis.get("batches:sweeper"))
            time.sleep(0.02)
        assert len(holders - {None}) == 1
        for sweeper in sweepers:
            sweeper.stop()
        wait_until(lambda: redis.get("batches:sweeper") is None)
        for sweeper in sweepers:
            sweeper.start()
            wait_until(lambda: redis.get("batches:sweeper") is not None)
            holders.add(redis.get("batches:sweeper"))
            sweeper.stop()
        assert len(holders - {None}) == 2
    finally:
        for sweeper in sweepers:
            sweeper.stop()


def test_a_store_that_goes_away_does_not_end_the_sweeper(app: Celery, redis: Redis, sweeper: Sweeper) -> None:
    sweeper.start()
    try:
        wait_until(lambda: redis.get("batches:sweeper"))
        redis.execute_command("ACL", "SETUSER", "batches", "-eval", "-evalsha")
        wait_until(lambda: redis.get("batches:sweeper") is None, what="the end of its lock")
        redis.execute_command("ACL", "SETUSER", "batches", "+eval", "+evalsha")
        batch = fired_but_not_published(app, redis)
        wait_until(lambda: batch.status().callbacks[0].state == "published")
    finally:
        redis.execute_command("ACL", "SETUSER", "batches", "+eval", "+evalsha")
        sweeper.stop()
    wait_until(lambda: "batches-sweeper" not in {t.name for t in threading.enumerate()}, what="its end")


def test_a_sweeper_that_was_told_to_end_keeps_no_other_from_it(sweeper: Sweeper, redis: Redis) -> None:
    sweeper.stop()
    assert not sweeper.turn(), "as its thread does that was slow to hear of it"
    assert redis.get("batches:sweeper") is None


def test_the_sweeper_is_not_stopped_by_one_batch_it_cannot_read(
    app: Celery, redis: Redis, sweeper: Sweeper
) -> None:
    broken = fired_but_not_published(app, redis)
    redis.hset(f"batches:{{{broken.bid}}}", "schema", 99)
    well = fired_but_not_published(app, redis)
    sweeper.sweep()
    assert well.status().callbacks[0].state == "published"


def test_what_somebody_else_wrote_into_a_batch_does_not_stop_the_sweeper(
    app: Celery, redis: Redis, sweeper: Sweeper
) -> None:
    broken = fired_but_not_published(app, redis)
    redis.hset(f"batches:{{{broken.bid}}}", "total", "many")
    well = fired_but_not_published(app, redis)
    sweeper.sweep()
    assert well.status().callbacks[0].state == "published"
    assert sweeper.done["looked at"] == 2

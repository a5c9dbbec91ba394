from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from celery import Celery
from redis import Redis
from redis.exceptions import ResponseError

from celery_batches_notify import Batch
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.recovery.sweeper import Sweeper
from celery_batches_notify.store.errors import store_errors
from celery_batches_notify.store.lists import LiveBatch
from celery_batches_notify.store.store import Store
from tests.support.servers import wait_until

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
    return app._batches_extension.engine.store


@pytest.fixture
def sweeper(app: Celery) -> Sweeper:
    return app._batches_extension.engine.sweeper


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
        store.cancel_batch(batch.bid, terminate=False) if what == "cancel" else store.record_death(batch.bid)
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
    assert redis.zcard("batches:live") == 2, "it may just be in the making"
    for name in ("live", "index"):
        redis.zincrby(f"batches:{name}", -61_000, gone.bid)
    sweeper.sweep()
    for name in ("live", "index"):
        assert redis.zrange(f"batches:{name}", 0, -1) == [running.bid.encode()]


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
    monkeypatch.setattr("celery_batches_notify.recovery.sweeper.LOCK_INTERVALS", 300)
    sweepers = [make_app(batches_sweep_interval=0.1)._batches_extension.engine.sweeper for _ in range(2)]
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
    assert not sweeper.sweep_if_leader(), "as its thread does that was slow to hear of it"
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


# -- what one batch must not keep from another ------------------------------------------------------


def test_what_is_due_behind_many_finished_batches_is_published_by_one_sweep(
    app: Celery, redis: Redis, sweeper: Sweeper
) -> None:
    for _ in range(350):
        Batch(app=app).seal()
    victim = fired_but_not_published(app, redis)
    sweeper.sweep()
    assert victim.status().callbacks[0].state == "published"
    assert redis.zrange("batches:live", 0, -1) == [victim.bid.encode()]


def test_a_batch_whose_count_would_overflow_does_not_stop_the_sweeper(
    app: Celery, redis: Redis, sweeper: Sweeper, caplog: pytest.LogCaptureFixture
) -> None:
    parent = Batch(app=app, keep_open=True)
    broken = Batch(app=app, parent=parent)
    broken.add(app.tasks["told"].s())
    well = fired_but_not_published(app, redis)
    spoilt = {"parent_version": 2**63 - 1, "had_death": 1, "open": 1, "next_due": 1}
    redis.hset(f"batches:{{{broken.bid}}}", mapping=spoilt)
    with caplog.at_level("WARNING"):
        sweeper.sweep()
    assert well.status().callbacks[0].state == "published"
    assert "CorruptBatch" in caplog.text, "it is not called a store that is away"


def test_a_refusal_that_nobody_knows_is_of_the_one_batch_that_met_it(
    app: Celery, redis: Redis, store: Store, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, well = (fired_but_not_published(app, redis) for _ in range(2))
    claim = store.claim_deliveries

    def claim_deliveries(bid: str) -> object:
        if bid == broken.bid:  # a mock, since no input is known that makes the server say so
            with store_errors(store.settings):
                raise ResponseError("no such thing was ever heard")
        return claim(bid)

    monkeypatch.setattr(store, "claim_deliveries", claim_deliveries)
    sweeper.sweep()
    assert well.status().callbacks[0].state == "published"
    assert sweeper.done["failed"] == 1


@pytest.mark.parametrize(("field", "value"), [("schema", 99), ("total", "many")])
def test_a_child_is_healed_though_this_worker_cannot_touch_its_parent(
    app: Celery, redis: Redis, sweeper: Sweeper, field: str, value: object
) -> None:
    parent = Batch(app=app, keep_open=True)
    parent._enrolment.open()
    child = Batch(app=app, parent=parent).on("success", app.tasks["told"].s())
    child._enrolment.open()
    child._engine.store.seal_batch(child.bid)
    key = f"batches:{{{child.bid}}}"
    redis.hset(f"{key}:outbox", "success:0", "due 0 1")
    redis.hset(key, "next_due", 1)
    redis.hset(f"batches:{{{parent.bid}}}", field, value)
    sweeper.sweep()
    assert child.status().callbacks[0].state == "published"


def test_a_lost_worker_that_cannot_be_read_does_not_stop_the_sweeper(
    app: Celery, redis: Redis, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_batches_notify.worker.heartbeat.Heartbeat.trusts", lambda *_: True)
    redis.zadd("batches:workers", {"broken": 1, "gone": 2})
    redis.expire("batches:workers", 60)
    redis.set("batches:worker:broken", "no hash", ex=60)
    well = fired_but_not_published(app, redis)
    sweeper.sweep()
    assert well.status().callbacks[0].state == "published"
    assert redis.zrange("batches:workers", 0, -1) == [b"broken"], "the other one was looked after"


# -- how long the lists live, and the lock ----------------------------------------------------------


@pytest.mark.parametrize("life", ["expires", "linger"])
def test_a_sweep_lets_the_lists_live_as_long_as_what_is_on_them(
    make_app: Callable[..., Celery], redis: Redis, life: str
) -> None:
    app = make_app(batches_expires=600, batches_dead_expires=600, batches_linger=600)
    batch = Batch(app=app, **{life: 7200})
    batch.add(app.signature("told"))
    batch.cancel()
    lists = ("batches:live", "batches:index", "batches:cancelled")
    for name in lists:
        redis.pexpire(name, 5000)  # as if time had gone by, while reports renewed the batch
    app._batches_extension.engine.sweeper.sweep()
    assert all(redis.ttl(name) > 7100 for name in lists)


def test_a_sweep_that_takes_long_holds_its_lock_and_ends_where_it_lost_it(
    app: Celery, redis: Redis, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "_lock_seconds", 60.0)
    now = 0.0
    monkeypatch.setattr(sweeper, "_clock", lambda: now)
    batches = [fired_but_not_published(app, redis) for _ in range(4)]
    sweep_batch, lives = sweeper.sweep_batch, []

    def take_long(batch: LiveBatch) -> None:
        nonlocal now
        sweep_batch(batch)
        lives.append(redis.pttl("batches:sweeper"))
        redis.pexpire("batches:sweeper", 9_000)
        now += 25.0
        if len(lives) == 3:
            redis.set("batches:sweeper", "another", ex=60)

    monkeypatch.setattr(sweeper, "sweep_batch", take_long)
    assert sweeper.sweep_if_leader()
    states = Counter(b.status().callbacks[0].state for b in batches)
    assert states == {"published": 3, "due": 1}  # which one is last is open: two may be of one millisecond
    assert all(life > 50_000 for life in lives)


def test_a_lock_that_would_live_longer_than_anybody_takes_it_for_is_nobodys(
    app: Celery, redis: Redis
) -> None:
    """Its holder is dead, and the store's clock was set back by ten minutes."""
    lock = app._batches_extension.engine.store.sweep_lock(15)
    redis.set("batches:sweeper", "one that takes it for longer:90000", px=90_000)
    assert not lock.hold()
    redis.set("batches:sweeper", "the dead one:15000", px=615_000)
    assert lock.hold()
    assert redis.pttl("batches:sweeper") <= 15_000

"""The counters that all processes share: each batch counts once, whoever counts it, and however often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.membership import State
from celery_batches_notify.recovery.sweeper import Sweeper
from celery_batches_notify.store.lists import LiveBatch
from celery_batches_notify.store.store import Store
from celery_batches_notify.store.totals import COUNTED_FIELDS, numbers_of
from tests.support.scripts import together
from tests.support.terminal import Made, make_batch

TOTALS, COUNTED = "batches:totals:{totals}", "batches:totals:{totals}:counted"


@pytest.fixture
def sweeper(app: Celery) -> Sweeper:
    return app._batches_extension.engine.sweeper


@pytest.fixture
def made(app: Celery) -> Made:
    return make_batch(app, 3)


def totals(store: Store) -> dict[str, int]:
    """The counters without the times."""
    return {
        name: n
        for name, n in store.read_totals().items()
        if not name.startswith("duration") and name != "swept_at"
    }


def test_a_running_batch_counts_as_it_goes_and_once(made: Made, store: Store, sweeper: Sweeper) -> None:
    sweeper.sweep()
    assert totals(store) == {"created": 1}
    made.report(State.SUCCEEDED, 0, 1)
    sweeper.sweep()
    sweeper.sweep()
    assert totals(store) == {"created": 1, "members:succeeded": 2}
    made.report(State.SUCCEEDED, 2)
    sweeper.sweep()
    sweeper.sweep()
    assert totals(store) == {"created": 1, "members:succeeded": 3, "ended:success": 1}


def test_every_sweeper_may_count_a_batch_and_it_counts_once(
    made: Made, make_app: Callable[..., Celery], store: Store
) -> None:
    made.report(State.SUCCEEDED, 0)
    for _ in range(3):  # each knows nothing of the others, as after a kill
        sweeper = make_app()._batches_extension.engine.sweeper
        sweeper.sweep()
    assert totals(store) == {"created": 1, "members:succeeded": 1}


def test_sixteen_counts_at_once_count_once(made: Made, store: Store) -> None:
    made.report(State.SUCCEEDED)
    assert together(*(lambda: store.count_batch(made.bid) for _ in range(16))) == [None] * 16
    assert totals(store) == {"created": 1, "members:succeeded": 3, "ended:success": 1}


def test_a_batch_that_ends_between_two_sweeps_is_counted_as_it_is_retired(
    made: Made, redis: Redis, store: Store, sweeper: Sweeper
) -> None:
    made.report(State.SUCCEEDED)
    sweeper.sweep()
    assert redis.zcard("batches:live") == 0
    assert totals(store) == {"created": 1, "members:succeeded": 3, "ended:success": 1}
    assert (
        redis.hget(TOTALS, "duration:0") == b"1"
        or sum(n for name, n in store.read_totals().items() if name.startswith("duration:")) == 1
    )


def test_a_sweeper_that_dies_before_it_counts_leaves_the_batch_for_the_next(
    made: Made, redis: Redis, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.report(State.SUCCEEDED)
    (batch,) = store.walk_live()
    with monkeypatch.context() as patch:
        patch.setattr(store, "count_batch", lambda _: pytest.fail("killed here"))
        with pytest.raises(pytest.fail.Exception):
            store.retire_batch(batch)
    assert redis.zcard("batches:live") == 1, "it is still on the list"
    store.retire_batch(batch)
    store.retire_batch(batch)
    assert totals(store) == {"created": 1, "members:succeeded": 3, "ended:success": 1}


def test_what_a_retry_changes_is_added_and_the_end_stays_what_it_was(
    made: Made, store: Store, sweeper: Sweeper
) -> None:
    made.report(State.SUCCEEDED, 0, 1)
    made.report(State.DEAD, 2)
    sweeper.sweep()
    assert totals(store) == {"created": 1, "members:succeeded": 2, "members:dead": 1, "ended:dead": 1}
    made.report(State.SUCCEEDED, 2)
    assert made.batch.status().state == "success"
    sweeper.sweep()
    assert totals(store) == {"created": 1, "members:succeeded": 3, "members:dead": 1, "ended:dead": 1}


def test_the_dead_are_those_of_the_end_however_late_they_are_counted(
    made: Made, store: Store, sweeper: Sweeper
) -> None:
    made.report(State.SUCCEEDED, 0)
    made.report(State.DEAD, 1, 2)
    made.report(State.SUCCEEDED, 1)
    sweeper.sweep()
    assert totals(store) == {"created": 1, "members:succeeded": 2, "members:dead": 2, "ended:dead": 1}


def test_a_cancelled_batch_ends_as_cancelled(made: Made, store: Store, sweeper: Sweeper) -> None:
    store.cancel_batch(made.bid, terminate=False)
    made.report(State.DEAD)
    sweeper.sweep()
    assert totals(store) == {"created": 1, "members:dead": 3, "ended:cancelled": 1}


def test_a_deleted_batch_has_counted(made: Made, store: Store, sweeper: Sweeper) -> None:
    made.report(State.SUCCEEDED, 0)
    (seen,) = store.walk_live()
    made.batch.delete()
    assert totals(store) == {"created": 1, "members:succeeded": 1}
    assert seen.numbers
    store.count_batches([seen.numbers])  # a sweeper had read it before
    assert totals(store) == {"created": 1, "members:succeeded": 1}


def test_callbacks_count_by_channel_and_outcome_when_their_batch_is_retired(
    app: Celery, store: Store, sweeper: Sweeper
) -> None:
    batch = Batch("x", app=app)
    for event in ("success", "finish"):
        batch.on(event, app.signature("proj.ok"))
    batch.on("complete", "webhook", url="https://example.com/", only_if={"failures": 1})
    batch.on("complete", "webhook", url="https://example.com/")
    batch.seal()
    for entry in ("success:0", "finish:0"):
        store.settle_delivery(batch.bid, entry, "delivered", 1)
    store.settle_delivery(batch.bid, "complete:1", "given_up", 1)
    sweeper.sweep()
    expected = {"delivery:task:delivered": 2, "delivery:webhook:given_up": 1, "delivery:webhook:skipped": 1}
    assert {n: c for n, c in totals(store).items() if n.startswith("delivery")} == expected
    batch.redeliver("complete")
    sweeper.sweep()
    store.settle_delivery(batch.bid, "complete:1", "delivered", 2)
    sweeper.sweep()
    expected["delivery:webhook:delivered"] = 1
    assert {n: c for n, c in totals(store).items() if n.startswith("delivery")} == expected


def test_a_callback_that_was_given_up_counts_while_its_batch_runs(
    app: Celery, store: Store, sweeper: Sweeper
) -> None:
    made = make_batch(app, 2)
    batch = Batch("x", app=app).on("death", "webhook", url="https://example.com/")
    with batch:
        results = [app.tasks["proj.ok"].delay() for _ in range(2)]
    running = Made(batch=batch, ids=[result.id for result in results])
    running.report(State.DEAD, 0)
    store.settle_delivery(batch.bid, "death:0", "given_up", 1)
    sweeper.sweep()
    assert totals(store)["delivery:webhook:given_up"] == 1
    assert not batch.status().finish_at and not made.batch.status().finish_at


def test_a_reading_that_is_too_old_counts_nothing(made: Made, redis: Redis, store: Store) -> None:
    """The batch may have expired since, and what was counted of it may be forgotten."""
    (seen,) = store.walk_live()
    assert seen.numbers
    late = seen.numbers.read_at - 31 * 60 * 1000
    store.count_batches([replace(seen.numbers, read_at=late)])
    assert totals(store) == {}
    store.count_batches([seen.numbers])
    assert totals(store) == {"created": 1}


def test_what_was_counted_is_forgotten_an_hour_after_its_batch_is_gone(
    made: Made, redis: Redis, store: Store, sweeper: Sweeper
) -> None:
    sweeper.sweep()
    trimmer = store.trimmer()
    trimmer.trim()
    assert b"gone_at" not in redis.hget(COUNTED, made.bid), "it exists"
    redis.unlink(*store.keys.of_batch(made.bid))
    trimmer.trim()
    trimmer.trim()
    kept = redis.hget(COUNTED, made.bid)
    assert kept and b"gone_at" in kept
    gone_at = int(kept.partition(b"gone_at=")[2])
    redis.hset(COUNTED, made.bid, kept.replace(b"%d" % gone_at, b"%d" % (gone_at - 3_599_000)))
    trimmer.trim()
    assert redis.hexists(COUNTED, made.bid)
    redis.hset(COUNTED, made.bid, kept.replace(b"%d" % gone_at, b"%d" % (gone_at - 3_600_000)))
    trimmer.trim()
    assert not redis.hexists(COUNTED, made.bid)
    assert totals(store) == {"created": 1}


def test_counters_live_as_long_as_the_longest_life_of_a_batch(
    made: Made, redis: Redis, sweeper: Sweeper
) -> None:
    sweeper.sweep()
    half_a_year = 180 * 24 * 3600
    for key in (TOTALS, COUNTED):
        assert half_a_year - 600 < redis.ttl(key) <= half_a_year
        redis.expire(key, 60)
    sweeper.sweep()
    for key in (TOTALS, COUNTED):
        assert redis.ttl(key) > half_a_year - 600


def test_counters_that_something_else_overwrote_stop_no_sweep(
    app: Celery, made: Made, redis: Redis, sweeper: Sweeper, caplog: pytest.LogCaptureFixture
) -> None:
    redis.set(TOTALS, "x", ex=600)
    made.report(State.SUCCEEDED)
    make_batch(app, 1)
    sweeper.sweep()
    assert redis.zcard("batches:live") == 1, "the one that ended is retired"
    assert "batches are not counted" in caplog.text


def test_an_empty_sweep_says_when_it_was(app: Celery, store: Store, sweeper: Sweeper) -> None:
    sweeper.sweep()
    assert set(store.read_totals()) == {"swept_at"}


AT = dict.fromkeys(COUNTED_FIELDS, 0) | {"created_at": 1_000_000}


@pytest.mark.parametrize(
    ("times", "outcome"),
    [
        ({"finish_at": 5, "success_at": 5}, "success"),
        ({"finish_at": 5}, "dead"),
        ({"finish_at": 5, "success_at": 9}, "dead"),
        ({"finish_at": 5, "cancelled_at": 4}, "cancelled"),
        ({"finish_at": 5, "cancelled_at": 6}, "dead"),
        ({"finish_at": 5, "success_at": 5, "cancelled_at": 4}, "success"),
    ],
)
def test_the_outcome_is_that_of_the_end(times: dict[str, int], outcome: str) -> None:
    assert numbers_of({**AT, **times})[f"ended:{outcome}"] == 1


@pytest.mark.parametrize(("ms", "bucket"), [(0, 0), (1000, 0), (1001, 1), (604_800_000, 8), (604_800_001, 9)])
def test_a_duration_falls_into_the_first_bucket_that_holds_it(ms: int, bucket: int) -> None:
    found = numbers_of({**AT, "finish_at": AT["created_at"] + ms})
    assert found[f"duration:{bucket}"] == 1 and found["duration_ms"] == ms
    assert numbers_of({**AT, "finish_at": 5})["duration_ms"] == 0, "the store's clock was set back"


def test_a_batch_that_cannot_be_read_counts_nothing_and_goes(
    made: Made, redis: Redis, store: Store, sweeper: Sweeper
) -> None:
    redis.hset(f"batches:{{{made.bid}}}", "created_at", "x")
    store.count_batch(made.bid)
    made.batch.delete()
    store.retire_batch(LiveBatch(bid=made.bid, score=0, ended=False, has_due=False, gone=True))
    assert totals(store) == {}

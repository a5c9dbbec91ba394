"""A batch that stands still is looked into without hands: once in a while, and only if nobody moves it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.doctor import reconcile
from celery_batches_notify.doctor.still_batches import StillBatches
from tests.support.apps import open_app
from tests.support.servers import running_worker, wait_until

AFTER_SECONDS = 600


@pytest.fixture
def opened(redis: Redis, server_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Celery]]:
    monkeypatch.setattr(reconcile, "BETWEEN_LOOKS_SECONDS", 0)
    apps = []

    def make(how: str) -> Celery:
        app = open_app(
            server_url, batches_keep_calls=True, batches_vanished=how, batches_vanished_after=AFTER_SECONDS
        )
        apps.append(app)
        return app.__enter__()

    yield make
    for app in apps:
        app.__exit__(None, None, None)


def still(app: Celery, redis: Redis, *, seconds: int = AFTER_SECONDS + 1) -> Batch:
    """A batch whose messages the broker lost so long ago."""
    batch = Batch(app=app)
    batch.add(app.signature("proj.ok"), app.signature("proj.ok"))
    redis.delete("celery")
    redis.hincrby(f"batches:{{{batch.bid}}}", "reported_at", -1000 * seconds)
    return batch


def still_batches(app: Celery) -> StillBatches:
    return StillBatches(app._batches_extension.engine)


@pytest.mark.parametrize(("how", "dead", "sent"), [("dead", 2, 0), ("resend", 0, 2)])
def test_what_has_vanished_is_ended_or_sent_again(
    opened: Callable[..., Celery],
    redis: Redis,
    caplog: pytest.LogCaptureFixture,
    how: str,
    dead: int,
    sent: int,
) -> None:
    app = opened(how)
    batch = still(app, redis)
    still_batches(app).reconcile()
    assert (batch.status().dead, redis.llen("celery")) == (dead, sent)
    assert f"it stood still: {dead} vanished members are dead, {sent} were sent again" in caplog.text


def test_a_batch_that_moves_is_left(opened: Callable[..., Celery], redis: Redis) -> None:
    app = opened("dead")
    batch = still(app, redis, seconds=AFTER_SECONDS - 60)
    still_batches(app).reconcile()
    assert batch.status().dead == 0


def test_of_many_workers_one_looks_and_not_again_for_a_while(
    opened: Callable[..., Celery], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened("resend")
    batch, looks = still(app, redis), []
    monkeypatch.setattr(
        "celery_batches_notify.doctor.still_batches.reconcile_batch",
        lambda _, bid, vanished: looks.append((bid, vanished)) or reconcile.Repairs(),
    )
    workers = [still_batches(app) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(StillBatches.reconcile, workers))
    still_batches(app).reconcile()
    assert looks == [(batch.bid, "resend")]
    redis.hincrby(f"batches:{{{batch.bid}}}", "looked_at", -1000 * (AFTER_SECONDS + 1))
    still_batches(app).reconcile()
    assert len(looks) == 2


def test_a_broker_that_cannot_be_read_leaves_all_as_it_is_and_says_so(
    make_app: Callable[..., Celery], redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = make_app(batches_vanished="dead", batches_vanished_after=AFTER_SECONDS)
    app.task(str, name="proj.ok", shared=False)
    batch = still(app, redis)
    still_batches(app).reconcile()
    assert batch.status().dead == 0
    assert "it stands still: no member was given up as vanished" in caplog.text
    assert "cannot be read" in caplog.text


def test_one_that_cannot_be_read_keeps_nobody_from_the_next(
    opened: Callable[..., Celery], redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    app = opened("dead")
    broken, well = still(app, redis), still(app, redis)
    redis.delete(f"batches:{{{broken.bid}}}:states")
    redis.set(f"batches:{{{broken.bid}}}:outbox", "no hash", ex=60)
    still_batches(app).reconcile()
    assert well.status().dead == 2


def test_a_broker_that_refuses_one_keeps_nobody_from_the_next(
    opened: Callable[..., Celery],
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = opened("resend")
    batches = [still(app, redis) for _ in range(2)]
    resender = app._batches_extension.engine.resender
    send, refused = resender.send, []

    def refuse_one(bid: str, members: object) -> None:
        if not refused:
            refused.append(bid)
            raise OSError("refused")
        send(bid, members)

    monkeypatch.setattr(resender, "send", refuse_one)
    still_batches(app).reconcile()
    assert redis.llen("celery") == 2
    assert "it stands still, and is left alone: OSError('refused')" in caplog.text
    assert refused[0] in {batch.bid for batch in batches}


def test_nobody_looks_unless_it_is_asked_for(opened: Callable[..., Celery]) -> None:
    for how, looks in (("leave", False), ("resend", True)):
        thread = still_batches(opened(how))
        thread.start()
        assert (thread._every._thread is not None) is looks
        thread.stop()


def test_a_member_that_a_worker_holds_is_not_sent_again(
    opened: Callable[..., Celery], redis: Redis, server_url: str
) -> None:
    app = opened("resend")
    with running_worker(server_url, "threads"):
        batch = Batch(app=app)
        batch.add(app.signature("proj.slow", (60,)), app.signature("proj.ok").set(countdown=600))
        wait_until(lambda: redis.llen("celery") == 0, what="the worker to take both")
        redis.hincrby(f"batches:{{{batch.bid}}}", "reported_at", -1000 * (AFTER_SECONDS + 1))
        still_batches(app).reconcile()
        assert redis.llen("celery") == 0
        assert batch.status().failures == 0

"""Deleting removes a batch and all batches below it, without a slow command."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, NoSuchBatch
from celery_batches_notify.store.store import Store

SLOW_MICROSECONDS = 10_000


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()

    @app.task(name="number", shared=False)
    def number(x: int) -> int:
        return x

    return app


@pytest.fixture
def store(app: Celery) -> Store:
    return app._batches_extension.engine.store


def family(app: Celery, *widths: int) -> list[Batch]:
    """Return a batch with so many children on each level."""
    top = Batch("top", app=app, keep_open=True)
    top.add(app.tasks["number"].s(1))
    generation, everybody = [top], [top]
    for width in widths:
        generation = [Batch(app=app, parent=p, keep_open=True) for p in generation for _ in range(width)]
        for child in generation:
            child.add(app.tasks["number"].s(1))
        everybody += generation
    return everybody


def test_a_deleted_batch_takes_all_below_it_along(app: Celery, redis: Redis) -> None:
    top, *below = family(app, 3, 2)
    other = Batch(app=app)
    other.seal()
    assert len(below) == 9
    assert top.delete() is True
    assert [b.bid for b in Batch.all(app=app)] == [other.bid]
    assert {key.decode().split("}")[0] for key in redis.keys("batches:{*")} == {f"batches:{{{other.bid}"}
    assert top.delete() is False


def test_a_deleted_child_leaves_its_family(app: Celery) -> None:
    top, child, sister = family(app, 2)
    child.delete()
    assert (top.status().total, sister.status().total) == (3, 1)
    with pytest.raises(NoSuchBatch):
        child.status()
    top.delete()
    assert list(Batch.all(app=app)) == []


def test_a_deletion_that_was_cut_short_is_repeated(app: Celery, store: Store, redis: Redis) -> None:
    top, *_ = family(app, 3, 2)
    real, removed = store.lists.remove_batch, []

    def remove_batch(bid: str) -> None:
        if len(removed) == 4:
            raise ConnectionResetError
        removed.append(bid)
        real(bid)

    store.lists.remove_batch = remove_batch
    with pytest.raises(ConnectionResetError):
        top.delete()
    assert top.status().children == 3
    store.lists.remove_batch = real
    assert top.delete() is True
    assert redis.keys("batches:{*") == []
    # Deleted batches that are still on the lists are dropped when a reader meets them.
    assert list(Batch.all(app=app)) == list(store.walk_live()) == []
    assert redis.zcard("batches:index") == redis.zcard("batches:live") == 0


def test_more_children_than_one_page_are_deleted(app: Celery, redis: Redis) -> None:
    top, *below = family(app, 250)
    assert len(below) == 250
    top.delete()
    assert redis.keys("batches:{*") == []


def test_no_command_of_a_big_deletion_holds_the_server_up(app: Celery, store: Store, redis: Redis) -> None:
    tries = []
    for _ in range(3):  # a busy machine may delay the server itself
        tries.append(delete_big_batch(app, store, redis))
        slow, seconds = tries[-1]
        if not slow and seconds < 1:
            return
    pytest.fail(f"{tries}")


def delete_big_batch(app: Celery, store: Store, redis: Redis) -> tuple[list[object], float]:
    """Return the slow commands, and the time of all commands together."""
    batch = Batch(app=app)
    batch._enrolment.open()
    chunks = 300
    for k in range(chunks):
        ids = [f"row-{k}-{i}" for i in range(1000)]  # not UUIDs, so each is kept in a hash too
        store.enrol_members(batch.bid, k * 1000, ids, "owner")
    assert redis.hlen(store.keys.part(batch.bid, "names")) == chunks * 1000
    began = time.monotonic()
    slow = redis.config_get("slowlog-log-slower-than")
    redis.config_set("slowlog-log-slower-than", SLOW_MICROSECONDS)
    redis.slowlog_reset()
    redis.config_resetstat()
    try:
        assert batch.delete() is True
        slow_commands = redis.slowlog_get()
    finally:
        redis.config_set("slowlog-log-slower-than", slow["slowlog-log-slower-than"])
    assert "cmdstat_del" not in redis.info("commandstats")
    return slow_commands, time.monotonic() - began


def test_a_big_batch_is_deleted_while_its_members_report(app: Celery, store: Store, redis: Redis) -> None:
    from celery_batches_notify.membership import Membership, Outcome, State

    batch = Batch(app=app)
    batch._enrolment.open()
    ids = [str(uuid.UUID(int=i + 1)) for i in range(1000)]
    store.enrol_members(batch.bid, 0, ids, "owner")
    batch.seal()
    for i, task_id in enumerate(ids):
        if i == 500:
            batch.delete()
        member = Membership(bid=batch.bid, index=i, task_id=task_id)
        word = store.record_outcome(member, Outcome(state=State.SUCCEEDED)).word
        assert word == ("counted" if i < 500 else "gone")
    assert redis.keys("batches:{*") == []

"""Foreign data in the store raises our own errors, and leaves the other batches alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, BatchesError, CorruptBatch, NoSuchBatch, SchemaTooNew
from celery_batches_notify.delivery.parents import REPORT_DUE
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import Failure
from celery_batches_notify.store.keys import PARTS
from celery_batches_notify.testing import drain

SUCCEEDED = Outcome(state=State.SUCCEEDED)
NESTED = "[" * 10_000 + "]" * 10_000
DIGITS = "9" * 10_000
VALUES: dict[str, bytes] = {
    "nothing": b"",
    "words": b"not what it should be",
    "bytes": b"\xff\xfe\x00",
    "a huge number": DIGITS.encode(),
    "a negative number": b"-1",
    "no number": b"nan",
    "nesting": NESTED.encode(),
    "huge JSON number": b'{"event": %b}' % DIGITS.encode(),
    "twice the same name": b'{"event": "finish", "event": "success"}',
    "a list": b"[1, 2, 3]",
    "a wrong callback": b'[{"event": 1, "n": [], "target": null}]',
    "null": b"null",
}
TYPES = {
    "hash": lambda client, key: client.hset(key, "x", "y"),
    "list": lambda client, key: client.rpush(key, "x"),
    "set": lambda client, key: client.sadd(key, "x"),
    "string": lambda client, key: client.set(key, "x"),
}


def told(*_: object) -> None:
    """Be called back."""


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()
    app.task(told, name="told", shared=False)
    return app


def make_full(app: Celery, *, due: bool = True) -> tuple[Batch, list[str]]:
    """Return a batch with all its keys: one member succeeded, one dead, one waiting, and a callback due."""
    parent = Batch("parent", app=app, keep_open=True)
    with Batch("full", app=app, parent=parent, tags=["t"]).on("death", app.tasks["told"].s()) as batch:
        for i in range(3):
            app.tasks["told"].apply_async((i,), task_id=f"id-{batch.bid}-{i}")
        with Batch("child", app=app, parent=batch):
            app.tasks["told"].delay()
    ids = [f"id-{batch.bid}-{i}" for i in range(3)]
    store = store_of(app)
    failure = Failure(task_id="x", task="t", error_class="E", error_message="m", backtrace=None, retries=0)
    call = json.dumps({"id": ids[1], "task": "told", "args": [], "kwargs": {}, "options": {}})
    dead = Outcome(state=State.DEAD, reason="failed", failure=failure, resend=call)
    indices = {name.decode(): int(index) for index, name in names(app, batch.bid).items()}
    for task_id, outcome in zip(ids, (SUCCEEDED, dead), strict=False):
        store.record_outcome(Membership(bid=batch.bid, index=indices[task_id], task_id=task_id), outcome)
    assert due
    return batch, ids


def names(app: Celery, bid: str) -> dict[bytes, bytes]:
    store = store_of(app)
    found: Any = store.client.hgetall(store.keys.part(bid, "names"))
    return found


def store_of(app: Celery) -> Any:
    return app._batches_extension.engine.store


def left_behind(app: Celery, redis: Redis) -> Batch:
    """Return a batch with an unpublished callback, which the sweeper must find."""
    batch = Batch(app=app).on("success", app.tasks["told"].s())
    (result,) = batch.add(app.tasks["told"].s())
    store_of(app).record_outcome(Membership(bid=batch.bid, index=0, task_id=result.id), SUCCEEDED)
    key = f"batches:{{{batch.bid}}}"
    redis.hset(key, "next_due", 1)
    redis.hset(f"{key}:outbox", "success:0", "due 0 1")
    return batch


def use(app: Celery, batch: Batch, ids: list[str]) -> None:
    """Do everything with a batch; fail on an error that is not ours."""
    store, engine = store_of(app), app._batches_extension.engine
    member = Membership(bid=batch.bid, index=2, task_id=ids[2])
    calls: tuple[Callable[[], object], ...] = (
        batch.status,
        lambda: next(iter(batch.follow()), None),
        lambda: batch.join(0.01),
        lambda: list(batch.deliveries()),
        lambda: list(store.walk_members(batch.bid, 4)),
        lambda: store.claim_deliveries(batch.bid),
        lambda: engine.publisher.publish(batch.bid, REPORT_DUE),
        lambda: engine.attempts.run(batch.bid, "death:0"),
        lambda: batch.redeliver("death"),
        lambda: engine.reporter.report(member, SUCCEEDED, seconds=0.1),
        lambda: batch.cancelled,
        batch.retry,
        batch.cancel,
        lambda: store.check_watches(batch.bid),
    )
    for call in calls:
        with suppress(BatchesError):
            call()


def check_others(app: Celery, redis: Redis, well: Batch) -> None:
    """Check that the other batches are listed and swept."""
    assert well.bid in [batch.bid for batch in Batch.all(app=app)]
    app._batches_extension.engine.sweeper.sweep()
    assert well.status().callbacks[0].state == "published"


FIELDS = [
    "schema",
    "total",
    "succeeded",
    "failing",
    "dead",
    "created_at",
    "reported_at",
    "sealed_at",
    "death_at",
    "tags",
    "callbacks:death",
    "expires",
    "open",
    "next_due",
    "watch_at",
    "resend_at",
    "parent_bid",
    "parent_index",
    "parent_version",
    "life",
    "description",
    "callback_queue",
    "late",
    "awaited",
]


@pytest.mark.parametrize("field", FIELDS)
def test_a_hostile_field_harms_its_own_batch_at_most(field: str, app: Celery, redis: Redis) -> None:
    for value in VALUES.values():
        batch, ids = make_full(app)
        redis.hset(f"batches:{{{batch.bid}}}", field, value)
        well = left_behind(app, redis)
        use(app, batch, ids)
        check_others(app, redis, well)
        batch.delete()


@pytest.mark.parametrize(
    ("part", "entry"),
    [
        ("outbox", "death:0"),
        ("outbox", "x"),
        ("failures", "1"),
        ("resend", "1"),
        ("children", "9"),
        ("names", "2"),
    ],
)
def test_a_hostile_entry_harms_its_own_batch_at_most(
    part: str, entry: str, app: Celery, redis: Redis
) -> None:
    for value in VALUES.values():
        batch, ids = make_full(app)
        redis.hset(f"batches:{{{batch.bid}}}:{part}", entry, value)
        well = left_behind(app, redis)
        use(app, batch, ids)
        check_others(app, redis, well)
        batch.delete()


def test_a_hostile_log_of_deliveries_is_told(app: Celery, redis: Redis) -> None:
    batch, _ = make_full(app)
    for value in VALUES.values():
        redis.delete(f"batches:{{{batch.bid}}}:deliveries")
        redis.rpush(f"batches:{{{batch.bid}}}:deliveries", b"1 " + value)
        redis.expire(f"batches:{{{batch.bid}}}:deliveries", 60)
        with pytest.raises(CorruptBatch, match="cannot be read"):
            batch.deliveries()


@pytest.mark.parametrize("part", ["", *PARTS])
def test_a_key_of_another_type_harms_its_own_batch_at_most(part: str, app: Celery, redis: Redis) -> None:
    for write in TYPES.values():
        batch, ids = make_full(app)
        key = f"batches:{{{batch.bid}}}" + (f":{part}" if part else "")
        redis.delete(key)
        write(redis, key)
        redis.expire(key, 60)
        well = left_behind(app, redis)
        use(app, batch, ids)
        check_others(app, redis, well)
        batch.delete()
        assert not redis.exists(key)


def test_hostile_entries_of_the_lists_are_left_out(app: Celery, redis: Redis) -> None:
    hostile = ["", "x", "a" * 65, "*", "}:x{", "../../etc", b"\xff" * 20, "a b c d e f g"]
    well = left_behind(app, redis)
    for name in ("index", "live", "cancelled"):
        redis.zadd(f"batches:{name}", dict.fromkeys(hostile, 1))
        redis.zadd(f"batches:{name}", dict.fromkeys(("y", b"\xfe"), 9000000000000000.0))
        redis.expire(f"batches:{name}", 60)
    assert [batch.bid for batch in Batch.all(app=app)] == [well.bid]
    store_of(app).read_cancelled()
    check_others(app, redis, well)


# -- callbacks ------------------------------------------------------------------------------------


def forge_callback(app: Celery, redis: Redis, signature: object) -> Batch:
    """Return a batch with a foreign due callback, after the sweeper looked after it."""
    batch, _ = make_full(app)
    key = f"batches:{{{batch.bid}}}"
    forged = [{"event": "death", "n": 0, "target": "x", "signature": signature}]
    redis.set(f"{key}:callbacks", json.dumps(forged), keepttl=True)
    redis.hset(f"{key}:outbox", "death:0", "due 0 1")
    redis.hset(key, mapping={"next_due": 1, "open": 1})
    app._batches_extension.engine.sweeper.sweep()
    return batch


@pytest.mark.parametrize("task", ["os:system", "os.system", "builtins.eval", "subprocess:run", "told2"])
def test_a_stored_callback_names_a_task_that_a_worker_must_have(task: str, app: Celery, redis: Redis) -> None:
    batch = forge_callback(app, redis, {"task": task, "args": ["touch /tmp/x"], "kwargs": {}, "options": {}})
    drain(batch)
    line = batch.deliveries()[-1]
    assert (line.outcome, line.detail) == ("failed", "a worker without this task took it")


@pytest.mark.parametrize(
    "signature",
    [
        {},
        {"task": ""},
        {"task": 5},
        {"task": "told", "options": ["queue"]},
        {"task": "told", "defaults": 7},
        {"subtask_type": "chain", "kwargs": {"tasks": ["told"]}},
        {"subtask_type": "group", "kwargs": {"tasks": []}},
        {"subtask_type": "chord", "kwargs": {"header": [["told"]], "body": {"task": "told"}}},
    ],
    ids=[f"case{n}" for n in range(8)],
)
def test_a_stored_callback_that_is_no_signature_is_given_up(
    signature: object, app: Celery, redis: Redis
) -> None:
    batch = forge_callback(app, redis, signature)
    assert batch.status().callbacks[0].state == "given_up"
    assert batch.deliveries()[-1].detail.startswith("not published: InvalidCallback: ")


@pytest.mark.parametrize("name", ["os:system", "proj.own:Pager", "", "__class__", "../email"])
def test_a_stored_notifier_is_only_built_if_it_is_registered(name: str, app: Celery, redis: Redis) -> None:
    batch, _ = make_full(app)
    key = f"batches:{{{batch.bid}}}"
    forged = [{"event": "death", "n": 0, "target": "x", "notifier": name, "options": {}}]
    redis.set(f"{key}:callbacks", json.dumps(forged), keepttl=True)
    redis.hset(f"{key}:outbox", "death:0", "published 1 0")
    answer = app._batches_extension.engine.attempts.run(batch.bid, "death:0")
    assert "failed" in answer or "given up" in answer
    assert batch.deliveries()[-1].outcome != "delivered"


# -- mixed versions (T44) ---------------------------------------------------------------------------


def test_a_batch_of_a_newer_version_is_refused_by_all_and_changed_by_none(app: Celery, redis: Redis) -> None:
    batch, ids = make_full(app)
    well = left_behind(app, redis)
    key = f"batches:{{{batch.bid}}}"
    redis.hset(key, "schema", 99)
    before = redis.hgetall(key)
    store = store_of(app)
    for call in (
        batch.status,
        lambda: Batch.get(batch.bid, app=app),
        lambda: next(iter(batch.follow())),
        lambda: batch.join(0.01),
        batch.cancel,
        batch.retry,
        batch.seal,
        lambda: batch.redeliver("death"),
        lambda: store.enrol_members(batch.bid, 4, ["new"], "owner"),
        lambda: store.claim_deliveries(batch.bid),
        lambda: store.record_outcome(Membership(bid=batch.bid, index=2, task_id=ids[2]), SUCCEEDED),
    ):
        with pytest.raises(SchemaTooNew, match="upgrade this process"):
            call()
    check_others(app, redis, well)
    after = redis.hgetall(key)
    assert after == before


def test_a_report_for_a_newer_batch_is_told_loudly_and_fails_no_task(
    app: Celery, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    batch, ids = make_full(app)
    redis.hset(f"batches:{{{batch.bid}}}", "schema", 99)
    member = Membership(bid=batch.bid, index=2, task_id=ids[2])
    with caplog.at_level("WARNING"):
        app._batches_extension.engine.reporter.report(member, SUCCEEDED, seconds=30)
    assert "upgrade this process" in caplog.text


def test_fields_that_an_older_version_did_not_write_are_not_missed(app: Celery, redis: Redis) -> None:
    batch, ids = make_full(app)
    key = f"batches:{{{batch.bid}}}"
    old = {"schema", "created_at", "reported_at", "total", "succeeded", "failing", "dead", "sealed_at"}
    old |= {"expires", "linger", "dead_expires", "life", "open", "next_due"}
    missing = [field for field in redis.hkeys(key) if field.decode() not in old]
    redis.hdel(key, *missing)
    assert batch.status().total == 4
    store = store_of(app)
    index = next(int(i) for i, name in names(app, batch.bid).items() if name.decode() == ids[2])
    report = store.record_outcome(Membership(bid=batch.bid, index=index, task_id=ids[2]), SUCCEEDED)
    assert report.word == "counted"
    app._batches_extension.engine.sweeper.sweep()


# -- eviction (T16) ---------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["", *PARTS])
def test_a_batch_that_lost_a_key_is_never_early_and_brings_no_key_back(
    part: str, app: Celery, redis: Redis
) -> None:
    batch, ids = make_full(app)
    store = store_of(app)
    redis.persist("batches:index")
    redis.expire("batches:index", 600)
    key = f"batches:{{{batch.bid}}}" + (f":{part}" if part else "")
    redis.delete(key)
    keys = set(redis.keys(f"batches:{{{batch.bid}}}*"))
    indices = range(4)
    for index in indices:
        for task_id in ids:
            store.record_outcome(Membership(bid=batch.bid, index=index, task_id=task_id), SUCCEEDED)
    app._batches_extension.engine.sweeper.sweep()
    try:
        status = batch.status()
        assert status.finish_at is None and status.success_at is None
        assert 0 <= status.pending <= status.total
    except NoSuchBatch:
        assert not part
    made = set(redis.keys(f"batches:{{{batch.bid}}}*")) - keys
    assert made <= {f"batches:{{{batch.bid}}}:{name}".encode() for name in ("outbox", "deliveries")}
    if not part:
        assert not made

"""A worker's records of tasks in flight, and how the sweeper settles a lost worker's, without workers."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.worker import state as worker_state
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.errors import StoreUnavailable
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.messages.headers import header_of
from celery_batches_notify.store.workers import pack_record
from celery_batches_notify.testing.server import embedded_server
from celery_batches_notify.worker.heartbeat import Heartbeat
from tests.support.servers import soon, wait_until

LEASE_SECONDS = 5


def told(*_: object) -> None:
    """Be called back."""


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app(batches_worker_lease=LEASE_SECONDS)
    app.task(told, name="told", shared=False)
    return app


@pytest.fixture
def heartbeat(app: Celery) -> Iterator[Heartbeat]:
    heartbeat = app._batches_extension.engine.heartbeat
    heartbeat.name("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("celery_batches_notify.store.one_way_connection.SECONDS", 10.0)
        yield heartbeat
        heartbeat.stop()


class Message:
    """A message that remembers which records the store held when it was acknowledged."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.held: list[bytes] | None = None

    def ack(self, *, multiple: bool = False) -> None:
        wait_until(lambda: records(self._redis) or not self.expected, what="the record")
        self.held = records(self._redis)

    expected = True


class Request:
    """A request of Celery's worker, with the attributes that the heartbeat reads."""

    time_start: float | None = None
    content_type, content_encoding = "application/json", "utf-8"
    body = b'[[1], {}, {"chain": null}]'

    def __init__(self, redis: Redis, header: object, task_id: str = "id") -> None:
        self.id = task_id
        self.message = Message(redis)
        self.request_dict = {"batches": header, "task": "told", "retries": 0, "id": task_id}


def records(redis: Redis) -> list[bytes]:
    return [field for key in redis.keys("batches:worker:*") for field in redis.hkeys(key)]


def member_header(index: int = 0) -> dict[str, object]:
    return {"bid": "0123456789abcdefABCDEF", "index": index}


# -- recording ----------------------------------------------------------------------------------------


def test_a_running_member_is_recorded_before_its_acknowledgement_leaves(
    heartbeat: Heartbeat, redis: Redis
) -> None:
    heartbeat.beat()
    request = Request(redis, member_header())
    heartbeat.watch(request)
    assert records(redis) == []
    worker_state.reserved_requests.add(request)
    request.time_start = 1.0
    request.message.ack(multiple=False)
    assert request.message.held == [b"id 0.0.0.0"]
    worker_state.reserved_requests.discard(request)
    heartbeat.beat()
    assert records(redis) == []


def test_a_member_that_ends_before_it_is_acknowledged_is_not_recorded(
    heartbeat: Heartbeat, redis: Redis
) -> None:
    heartbeat.beat()
    request = Request(redis, member_header())
    request.message.expected = False
    heartbeat.watch(request)
    request.time_start = 1.0
    request.message.ack(multiple=False)
    heartbeat.beat()
    assert records(redis) == []


def test_a_callback_is_recorded_as_it_arrives(heartbeat: Heartbeat, redis: Redis) -> None:
    heartbeat.beat()
    request = Request(redis, {"bid": "0123456789abcdefABCDEF", "delivery": "success:0"})
    heartbeat.watch(request)
    wait_until(lambda: records(redis) == [b"id 0.0.0.0"])
    heartbeat.beat()
    assert records(redis) == [b"id 0.0.0.0"]
    del request
    heartbeat.beat()
    assert records(redis) == []


def test_a_record_that_could_not_be_sent_is_written_by_the_next_beat(
    heartbeat: Heartbeat, redis: Redis
) -> None:
    request = Request(redis, {"bid": "0123456789abcdefABCDEF", "delivery": "success:0"})
    heartbeat.watch(request)  # the first beat opens the connection
    assert records(redis) == []
    heartbeat.beat()
    assert records(redis) == [b"id 0.0.0.0"]
    redis.flushall()
    heartbeat.beat()
    assert records(redis) == [b"id 0.0.0.0"]


def test_a_record_that_cannot_be_written_does_not_delay_the_acknowledgement(
    heartbeat: Heartbeat, redis: Redis
) -> None:
    heartbeat.beat()
    request = Request(redis, {**member_header(), "index": {1, 2}})
    request.message.expected = False
    heartbeat.watch(request)
    worker_state.reserved_requests.add(request)
    request.message.ack(multiple=False)
    assert request.message.held == []
    worker_state.reserved_requests.discard(request)


def test_a_header_that_is_not_ours_is_left_alone(heartbeat: Heartbeat, redis: Redis) -> None:
    request = Request(redis, "forged")
    ack = request.message.ack
    heartbeat.watch(request)
    assert request.message.ack == ack


def test_a_worker_that_ends_leaves_nothing_unless_it_still_runs_something(app: Celery, redis: Redis) -> None:
    heartbeat = app._batches_extension.engine.heartbeat
    heartbeat.name("here")
    heartbeat.start()
    request = Request(redis, {"bid": "0123456789abcdefABCDEF", "delivery": "success:0"})
    heartbeat.watch(request)
    heartbeat.stop()
    assert records(redis)
    assert redis.zcard("batches:workers") == 1
    del request
    wait_until(lambda: not redis.keys("batches:worker*"), what="the beat after that")
    heartbeat.stop()
    assert redis.keys("batches:worker*") == []


def test_a_beat_beside_the_last_one_does_not_bring_the_worker_back(
    heartbeat: Heartbeat, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed, go_on = threading.Event(), threading.Event()
    remove = heartbeat._store.remove_worker

    def remove_slowly(wid: str) -> None:
        remove(wid)
        removed.set()
        go_on.wait(30)

    monkeypatch.setattr(heartbeat._store, "remove_worker", remove_slowly)
    heartbeat.beat()
    ending = threading.Thread(target=heartbeat.stop)
    ending.start()
    assert removed.wait(30)
    with soon(0.2, go_on.set):
        heartbeat.beat()
    ending.join()
    assert redis.keys("batches:worker*") == []


def test_a_store_that_hangs_delays_no_acknowledgement(make_app: Callable[..., Celery], redis: Redis) -> None:
    with embedded_server() as url:
        app = make_app(batches_backend_url=url)
        heartbeat = app._batches_extension.engine.heartbeat
        heartbeat.name("here")
        heartbeat.beat()
        with Redis.from_url(url) as client:
            pid = client.info("server")["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            kept = [
                Request(redis, {"bid": "0123456789abcdefABCDEF", "delivery": "success:0"}, "id" * 5000)
                for _ in range(2000)
            ]
            for request in kept:  # more than the kernel's buffers take
                heartbeat.watch(request)
            assert not heartbeat._connection.is_open, "the others wait for nothing"
            with pytest.raises(StoreUnavailable):
                heartbeat.beat()
        finally:
            os.kill(pid, signal.SIGCONT)
        heartbeat.beat()
        heartbeat._connection.close()


# -- whether this worker may judge others ------------------------------------------------------------


def test_a_worker_judges_others_only_after_a_lease_without_a_break(
    heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(heartbeat, "_clock", lambda: now)

    def pass_time(seconds: float, *, clock: float | None = None) -> bool:
        nonlocal now
        now += seconds
        heartbeat._note_beat(round((now if clock is None else clock) * 1000))
        return heartbeat.trusts(round((now if clock is None else clock) * 1000))

    assert not heartbeat.trusts(round(now * 1000))
    assert not pass_time(0)
    assert [pass_time(1.25) for _ in range(4)] == [False, False, False, True]
    now += 3
    assert not heartbeat.trusts(round(now * 1000)), "its last beat is long ago"
    assert not pass_time(0), "it was stopped meanwhile"
    assert [pass_time(1.25) for _ in range(4)] == [False, False, False, True]
    for jump in (60, -60):
        set_to = round((now + jump) * 1000)
        assert not heartbeat.trusts(set_to), "the clock was set since its last beat, and all look lost"
    assert not pass_time(1.25, clock=now + 3600), "the server's clock has jumped, and all look lost"


# -- settling a lost worker's records -----------------------------------------------------------------


@pytest.fixture
def look(app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make a worker that beats steadily look for lost ones."""
    engine = app._batches_extension.engine
    monkeypatch.setattr(Heartbeat, "trusts", lambda *_: True)
    return engine.sweeper._lost.reap


def leave(
    app: Celery,
    redis: Redis,
    member: Membership | None = None,
    *,
    wid: str = "lost",
    ago: float = 60,
    field: str = "",
    raw: bytes = b"",
    **head: object,
) -> None:
    """Leave the record of a worker that last beat some time ago."""
    store = app._batches_extension.engine.store
    store.beat_worker(wid)
    redis.zincrby("batches:workers", -ago * 1000, wid)
    if member is not None:
        field, raw = (
            f"{member.task_id} 0.0.0.0",
            pack_record({"batches": header_of(member), "task": "told", **head}, b""),
        )
    store.write_records(wid, {field: raw})


def one_member(app: Celery) -> tuple[Batch, Membership]:
    batch = Batch(app=app)
    (result,) = batch.add(app.tasks["told"].s())
    return batch, Membership(bid=batch.bid, index=0, task_id=result.id)


def test_a_lost_workers_members_are_dead_and_its_records_are_removed(
    app: Celery, redis: Redis, look: Callable[[], None]
) -> None:
    batch, member = one_member(app)
    leave(app, redis, member)
    look()
    status = batch.status()
    (failure,) = status.failure_info
    assert (status.state, status.dead) == ("dead", 1)
    assert failure.error_class == "billiard.exceptions.WorkerLostError"
    assert redis.keys("batches:worker*") == []


def test_a_beat_from_the_future_is_a_lost_workers_once_it_is_not_renewed(
    app: Celery, redis: Redis, look: Callable[[], None]
) -> None:
    """The store's clock was set back by ten minutes, or its replica that took over is behind."""
    batch, member = one_member(app)
    leave(app, redis, member, ago=-600)
    look()
    assert batch.status().dead == 1
    assert redis.keys("batches:worker*") == []


def test_a_clock_that_was_set_since_the_last_beat_makes_no_worker_lost(app: Celery, redis: Redis) -> None:
    heartbeat, now = app._batches_extension.engine.heartbeat, time.monotonic()
    batch, member = one_member(app)
    clock_ms = app._batches_extension.engine.store.beat_worker("other")
    heartbeat._last_beat, heartbeat._steady_since = (now, clock_ms - 60_000), now - LEASE_SECONDS
    leave(app, redis, member)  # it looks 60 s old, and is not
    app._batches_extension.engine.sweeper._lost.reap()
    assert batch.status().dead == 0
    heartbeat._last_beat = (time.monotonic(), app._batches_extension.engine.store.beat_worker("other"))
    app._batches_extension.engine.sweeper._lost.reap()
    assert batch.status().dead == 1


def test_a_worker_whose_lease_has_not_ended_lives(
    make_app: Callable[..., Celery], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Heartbeat, "trusts", lambda *_: True)
    app = make_app(batches_worker_lease=120)
    app.task(told, name="told", shared=False)
    batch, member = one_member(app)
    leave(app, redis, member)  # 60 s ago, like those that are lost where the lease is 5 s
    app._batches_extension.engine.sweeper._lost.reap()
    assert batch.status().pending == 1
    assert batch.status().dead == 0


def test_a_worker_that_is_not_sure_of_itself_judges_no_other(app: Celery, redis: Redis) -> None:
    batch, member = one_member(app)
    leave(app, redis, member)
    app._batches_extension.engine.sweeper.sweep()
    assert batch.status().dead == 0


@pytest.mark.parametrize("changed", [{"went_on": True}, {"batches": "forged"}, {"retries": "many"}])
def test_a_record_of_a_task_that_went_on_or_is_invalid_changes_nothing(
    app: Celery, redis: Redis, look: Callable[[], None], changed: dict[str, object]
) -> None:
    batch, member = one_member(app)
    leave(app, redis, member, **changed)
    look()
    assert batch.status().dead == 0
    assert redis.keys("batches:worker*") == []


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"[]", b'{"batches": 1}', b'{"successors": 7}'])
def test_a_record_that_cannot_be_read_is_dropped(
    app: Celery, redis: Redis, look: Callable[[], None], raw: bytes
) -> None:
    leave(app, redis, field="x 0.0.0.0", raw=raw)
    look()
    assert redis.keys("batches:worker*") == []


class Trap:
    """An object that makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_from_the_store_is_ever_unpickled(
    app: Celery, redis: Redis, look: Callable[[], None], tmp_path: Path
) -> None:
    app.conf.accept_content = ["json", "pickle"]
    batch, member = one_member(app)
    body = pickle.dumps(((Trap(tmp_path / "sprung"),), {}, None))
    head = {"batches": header_of(member), "task": "told", "type": "application/x-python-serialize"}
    leave(app, redis, field=f"{member.task_id} 0.0.0.0", raw=pack_record(head | {"encoding": "binary"}, body))
    look()
    assert (batch.status().dead, batch.status().unsendable) == (1, {"not kept": 1})
    assert not (tmp_path / "sprung").exists()


def test_a_member_that_another_worker_runs_too_is_left_to_that_one(
    app: Celery, redis: Redis, look: Callable[[], None]
) -> None:
    batch, member = one_member(app)
    leave(app, redis, member, wid="alive", ago=1 - LEASE_SECONDS)
    leave(app, redis, member)
    look()
    assert batch.status().dead == 0
    assert redis.zrange("batches:workers", 0, -1) == [b"alive"]


def test_a_success_that_was_counted_stands(app: Celery, redis: Redis, look: Callable[[], None]) -> None:
    batch, member = one_member(app)
    app._batches_extension.engine.store.record_outcome(member, Outcome(state=State.SUCCEEDED))
    leave(app, redis, member)
    look()
    assert batch.status().state == "success"


def test_a_batch_waits_for_a_successor_that_the_lost_member_had_published(
    app: Celery, redis: Redis, look: Callable[[], None]
) -> None:
    batch, member = one_member(app)
    late = Membership(bid=batch.bid, index=None, task_id="next", of=(0, member.task_id))
    leave(app, redis, member, successors=[["next", header_of(late)]])
    look()
    status = batch.status()
    assert (status.total, status.dead, status.finish_at) == (2, 1, None)
    app._batches_extension.engine.store.record_outcome(late, Outcome(state=State.SUCCEEDED))
    assert batch.status().finish_at


def test_a_lost_callback_is_published_again_in_the_same_sweep(
    app: Celery, redis: Redis, look: Callable[[], None]
) -> None:
    batch = Batch(app=app).on("success", app.tasks["told"].s())
    batch.seal()
    assert [(c.state, c.attempts) for c in batch.status().callbacks] == [("published", 1)]
    task_id = f"cb_{batch.bid}_success_0"
    header = {"bid": batch.bid, "delivery": "success:0"}
    leave(app, redis, field=f"{task_id} 0.0.0.0", raw=pack_record({"batches": header, "task": "told"}, b""))
    app._batches_extension.engine.sweeper.sweep()
    assert [(c.state, c.attempts) for c in batch.status().callbacks] == [("published", 2)]
    store = app._batches_extension.engine.store
    assert [line.detail for line in store.read_deliveries(batch.bid)] == ["its worker was lost"]


def test_a_record_that_cannot_be_settled_now_waits_for_the_next_sweep(
    app: Celery, redis: Redis, look: Callable[[], None]
) -> None:
    batch, member = one_member(app)
    redis.hset(f"batches:{{{batch.bid}}}", "schema", 99)
    leave(app, redis, member)
    look()
    assert records(redis)
    redis.hset(f"batches:{{{batch.bid}}}", "schema", 1)
    look()
    assert batch.status().dead == 1
    assert redis.keys("batches:worker*") == []


# -- sending it again -------------------------------------------------------------------------------


@pytest.fixture
def resending(make_app: Callable[..., Celery]) -> Celery:
    app = make_app(batches_worker_lease=LEASE_SECONDS, batches_lost_members="resend")
    app.task(told, name="told", shared=False)
    return app


def leave_with_call(app: Celery, redis: Redis, member: Membership, body: bytes, **head: object) -> None:
    store = app._batches_extension.engine.store
    store.beat_worker("lost")
    redis.zincrby("batches:workers", -60_000, "lost")
    head = {
        "batches": header_of(member),
        "task": "told",
        "type": "application/json",
        "encoding": "utf-8",
        **head,
    }
    store.write_records("lost", {f"{member.task_id} 0.0.0.0": pack_record(head, body)})


def sent_to(app: Celery) -> list[SimpleNamespace]:
    """Take all messages from the app's queue."""
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(app.conf.task_default_queue)
        found = []
        while queue.qsize():
            message = queue.get()
            found.append(SimpleNamespace(headers=message.headers, body=message.payload))
            message.ack()
        queue.close()
    return found


def test_a_lost_member_is_sent_again_under_its_id_in_a_new_round_with_its_canvas(
    resending: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Heartbeat, "trusts", lambda *_: True)
    app = resending
    batch = Batch(app=app)
    with batch:
        (app.tasks["told"].si(1) | app.tasks["told"].si(2)).delay()
    (message,) = sent_to(app)
    member = Membership(bid=batch.bid, index=0, task_id=message.headers["id"])
    import json

    leave_with_call(app, redis, member, json.dumps(message.body).encode())
    app._batches_extension.engine.sweeper.sweep()
    (again,) = sent_to(app)
    assert again.headers["id"] == member.task_id
    assert again.headers["batches"] == {"bid": batch.bid, "index": 0, "round": 1}
    assert again.body[0] == [1]
    assert again.body[2]["chain"] == message.body[2]["chain"]
    status = batch.status()
    assert (status.failing, status.dead, status.finish_at) == (1, 0, None)
    app._batches_extension.engine.sweeper.sweep()
    assert sent_to(app) == []
    round_1 = dataclasses.replace(member, round=1)
    app._batches_extension.engine.store.record_outcome(round_1, Outcome(state=State.SUCCEEDED))
    assert batch.status().state == "success"


def test_a_lost_member_that_cannot_be_sent_again_is_dead(
    resending: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Heartbeat, "trusts", lambda *_: True)
    app = resending
    batch, member = one_member(app)
    leave_with_call(app, redis, member, b"pickled", type="application/x-python-serialize", encoding="binary")
    app._batches_extension.engine.sweeper.sweep()
    assert batch.status().dead == 1

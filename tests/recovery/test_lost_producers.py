"""Producers that die at every step: an exception that nobody catches stands for the kill."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from celery import Celery, chain
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.batch import FoundBatch
from celery_batches_notify.errors import BatchSealed, EnqueueError
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.messages.block import leave_blocks, return_to
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.producer import chunk
from celery_batches_notify.producer.intake import Intake
from celery_batches_notify.recovery import lost_producers
from celery_batches_notify.store.store import Store
from tests.projects.proj_tasks import declare_tasks
from tests.support import failpoints

SUCCEEDED = Outcome(state=State.SUCCEEDED)
CHUNK = 5


class Died(BaseException):
    """A producer dies: nothing of the package catches it."""


@contextmanager
def striking(spec: str, strike: type[BaseException] = Died, when: str | None = None) -> Iterator[None]:
    """Let a failpoint strike here, with an exception in place of the kill."""
    trigger = failpoints.parse(spec)
    point = failpoints.POINTS[trigger.name]

    def raise_it() -> None:
        raise strike(spec)

    point = dataclasses.replace(point, strike=raise_it, when=when or point.when)
    with dying(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(*failpoints.find(point.target), failpoints.wrap(point, trigger))
        yield


@contextmanager
def dying() -> Iterator[None]:
    """Let a block that raises leave all as it is: a process that is killed ends no block."""
    around = leave_blocks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Intake, "drop_block", lambda _: None)
        try:
            yield
        finally:  # the blocks of the killed are not those of this process
            return_to(around)


@pytest.fixture
def app(make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app whose chunks are small, for one of five takes the same steps as one of a thousand."""
    monkeypatch.setattr(chunk, "CHUNK", CHUNK)
    app = make_app(batches_linger=60)
    declare_tasks(app)
    return app


@pytest.fixture
def store(app: Celery) -> Store:
    return app._batches_extension.engine.store


def task(app: Celery) -> object:
    return app.tasks["proj.ok"]


def fill(app: Celery, batch: Batch, calls: int) -> None:
    with batch:
        for n in range(calls):
            task(app).delay(n)


def die_at(spec: str, app: Celery, calls: int = 12, **options: object) -> Batch:
    """A batch whose producer died in a block."""
    batch = Batch(app=app, **options)
    with striking(spec), pytest.raises(Died):
        fill(app, batch, calls)
    return batch


def give_up(app: Celery, *batches: Batch) -> None:
    """Let the time come at which these are given up, and a sweeper pass by as often as it takes."""
    client, keys = store_of(app).client, store_of(app).keys
    for batch in batches:
        if int(client.hget(keys.batch(batch.bid), "abandon_at") or 0):
            client.hset(keys.batch(batch.bid), "abandon_at", 1)
    for _ in range(4):
        sweep(app)


def sweep(app: Celery) -> None:
    app._batches_extension.engine.sweeper.sweep()


def store_of(app: Celery) -> Store:
    return app._batches_extension.engine.store


def abandon_at(app: Celery, batch: Batch) -> int:
    return int(store_of(app).client.hget(store_of(app).keys.batch(batch.bid), "abandon_at"))


def succeed(app: Celery, batch: Batch, *indices: int) -> None:
    """Let members run and succeed."""
    store, status = store_of(app), batch.status()
    for member in store.read_members(batch.bid, 0, status.total):
        if not indices or member.index in indices:
            store.record_outcome(Membership(bid=batch.bid, index=member.index, task_id=member.id), SUCCEEDED)


@contextmanager
def hearing(redis: Redis, batch: Batch, last: bytes) -> Iterator[list[bytes]]:
    """The batch's tokens, up to this one."""
    with redis.pubsub() as pubsub:
        pubsub.subscribe(f"batch-{batch.bid}")
        pubsub.get_message(timeout=30)
        heard: list[bytes] = []
        yield heard
        while last not in heard and (message := pubsub.get_message(timeout=30)) is not None:
            heard.append(message["data"])


def counts(status: BatchStatus) -> tuple[int, int, int]:
    return status.total, status.succeeded, status.dead


# -- what becomes of a batch whose producer died ---------------------------------------------------


def test_a_batch_is_left_alone_until_its_time_has_come(app: Celery) -> None:
    batch = die_at("P3#2", app)
    sweep(app)
    status = batch.status()
    assert (status.state, status.abandoned_at, counts(status)) == ("open", None, (12, 0, 0))


def test_what_was_never_published_is_dead_and_says_why(app: Celery) -> None:
    batch = die_at("P3#2", app)
    succeed(app, batch, 0, 1, 2, 3, 4)
    give_up(app, batch)
    status = batch.status()
    assert counts(status) == (12, 5, 7)
    assert status.abandoned_at == status.sealed_at == status.complete_at or status.finish_at
    assert status.death_at and status.finish_at and not status.success_at and not status.cut_short
    assert {f.error_class for f in status.failure_info} == {"NeverPublished"}
    assert "in another batch" in status.failure_info[0].error_message
    assert status.unsendable == {"never published": 7}
    assert batch.retry() == 0


def test_what_ran_after_all_succeeds_after_all(app: Celery) -> None:
    """It had left when its producer died, and stayed in its queue for longer than anybody waited."""
    batch = die_at("P5", app)
    succeed(app, batch, *range(10))
    give_up(app, batch)
    assert counts(batch.status()) == (12, 10, 2)
    succeed(app, batch)
    assert batch.status().state == "success"
    assert batch.status().failure_info == ()


def test_a_block_that_was_all_published_succeeds_though_nobody_sealed_it(app: Celery) -> None:
    batch = die_at("P5", app)
    succeed(app, batch)
    assert batch.status().state == "open"
    give_up(app, batch)
    assert batch.status().state == "success"
    assert batch.status().abandoned_at


@pytest.mark.parametrize("how", ["map", "autoflush", "child", "nothing"])
def test_a_batch_that_was_cut_short_ends_without_success_whatever_succeeded(app: Celery, how: str) -> None:
    parent = Batch(app=app, keep_open=True)
    batch = Batch(app=app, parent=parent, autoflush=CHUNK if how == "autoflush" else None)
    with pytest.raises(Died), striking({"nothing": "P1#2", "child": "P1#3"}.get(how, "P2#4")):
        if how == "map":
            batch.map(task(app), range(100))
        elif how == "child":
            with batch, Batch(app=app, parent=batch):
                task(app).delay()
        else:
            fill(app, batch, 100)
    succeed(app, batch)
    children = [Batch.get(bid, app=app) for bid in store_of(app).walk_children(batch.bid)]
    give_up(app, batch, *children)  # one that was still filled would put its parent's time off
    status = batch.status()
    assert status.finish_at and status.death_at and not status.success_at
    assert (status.state, status.cut_short) == ("dead", True)
    parent.seal()
    sweep(app)
    assert parent.status().state == "dead"
    assert parent.status().death_at


def test_a_stream_cut_short_between_two_chunks_has_no_dead_members_and_is_dead(app: Celery) -> None:
    batch = Batch(app=app)

    def items() -> Iterator[int]:
        yield from range(10)
        raise Died

    with pytest.raises(Died):
        batch.map(task(app), items())
    succeed(app, batch)
    give_up(app, batch)
    assert counts(batch.status()) == (10, 10, 0)
    assert (batch.status().state, batch.status().success_at) == ("dead", None)


def test_a_broken_map_is_missed_though_calls_were_added_behind_it(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, sender = Batch(app=app), app.amqp.send_task_message
    with monkeypatch.context() as patch, pytest.raises(EnqueueError):
        patch.setitem(sender.__dict__, "send", lambda *_, **__: 1 / 0)
        batch.map(task(app), range(2 * CHUNK))
    batch.add(task(app).s())
    assert batch.status().state == "open"
    succeed(app, batch)
    give_up(app, batch)
    status = batch.status()
    assert (status.total, status.dead, status.cut_short, status.success_at) == (CHUNK + 1, 0, True, None)


def test_a_kept_open_batch_is_left_alone_until_somebody_seals_it(app: Celery) -> None:
    batch = Batch(app=app, keep_open=True)
    batch.add(task(app).s())
    with striking("P3"), pytest.raises(Died):
        fill(app, Batch.get(batch.bid, app=app), 2)
    assert abandon_at(app, batch) == 0
    give_up(app, batch)
    assert batch.status().state == "open"
    succeed(app, batch, 0)
    batch.seal()
    assert abandon_at(app, batch) > 0
    sweep(app)
    assert counts(batch.status()) == (3, 1, 0)
    give_up(app, batch)
    status = batch.status()
    assert counts(status) == (3, 1, 2)
    assert status.finish_at and not status.abandoned_at and not status.cut_short


def test_a_running_member_that_dies_while_it_adds_leaves_no_sealed_batch_waiting(app: Celery) -> None:
    batch = Batch(app=app)
    results = batch.add(task(app).s(), task(app).s())
    assert abandon_at(app, batch) == 0, "nobody is awaited"
    running = Membership(bid=batch.bid, index=0, task_id=results[0].id)
    with striking("P3"), pytest.raises(Died):
        fill(app, FoundBatch(batch._engine, batch.status(), running), 2)
    give_up(app, batch)
    succeed(app, batch, 0, 1)
    status = batch.status()
    assert counts(status) == (4, 2, 2)
    assert status.finish_at and not status.abandoned_at


def test_those_that_workers_publish_are_not_written_off(app: Celery) -> None:
    """The next link of a chain is enrolled by a report: nobody confirms it, and nobody need."""
    batch = Batch(app=app)
    with batch:
        task(app).delay()
        chain(task(app).s(), task(app).s()).delay()
    first = store_of(app).read_members(batch.bid, 1, 1)[0]
    follower = Membership(bid=batch.bid, index=None, task_id=str(uuid4()), of=(1, first.id))
    member = Membership(bid=batch.bid, index=1, task_id=first.id)
    store_of(app).record_outcome(member, dataclasses.replace(SUCCEEDED, successors=(follower,)))
    give_up(app, batch)
    assert counts(batch.status()) == (3, 1, 0)


def test_an_eager_call_that_never_ended_is_dead(make_app: Callable[..., Celery]) -> None:
    app = make_app(task_always_eager=True)

    @app.task(shared=False)
    def die() -> None:
        raise Died

    batch = Batch(app=app)
    with pytest.raises(Died), dying(), batch:
        die.delay()
    give_up(app, batch)
    assert counts(batch.status()) == (1, 0, 1)


# -- children ---------------------------------------------------------------------------------------


def test_a_child_that_was_never_stored_is_dead_in_its_parent(app: Celery) -> None:
    parent = Batch(app=app, keep_open=True)
    with striking("P1#2", when="before"), pytest.raises(Died):
        fill(app, Batch(app=app, parent=parent), 2)
    parent.seal()
    sweep(app)
    assert counts(parent.status()) == (1, 0, 0)
    give_up(app, parent)
    assert counts(parent.status()) == (1, 0, 1)
    assert parent.status().finish_at and parent.status().death_at
    assert parent.status().failure_info[0].task == "a batch"


def test_a_child_that_was_stored_tells_its_parent_itself(app: Celery) -> None:
    parent = Batch(app=app, keep_open=True)
    child = Batch(app=app, parent=parent)
    with striking("P5-unconfirmed"), pytest.raises(Died):
        fill(app, child, 2)
    parent.seal()
    give_up(app, parent)
    assert counts(parent.status()) == (1, 0, 0), "it may be filled yet"
    give_up(app, child)
    assert child.status().cut_short
    assert counts(parent.status()) == (1, 0, 1)
    assert parent.status().state == "dead"


# -- whoever clears up dies too -----------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["A1", "W2#1", "W2#3", "W2#6", "A2#1", "A2#2"])
def test_what_one_sweeper_did_not_finish_the_next_one_does(app: Celery, spec: str) -> None:
    batch = die_at("P3#2", app)
    store_of(app).client.hset(store_of(app).keys.batch(batch.bid), "abandon_at", 1)
    with striking(spec), pytest.raises(Died):
        sweep(app)
    assert batch.status().sealed_at
    sweep(app)
    status = batch.status()
    assert counts(status) == (12, 0, 7) and not status.finish_at, "the first five left"
    succeed(app, batch, *range(CHUNK))
    assert batch.status().finish_at
    assert abandon_at(app, batch) == 0


def test_a_large_batch_is_written_off_in_parts(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_producers, "MEMBERS_AT_ONCE", 2 * CHUNK)
    batch = die_at("P3", app, 23)
    store_of(app).client.hset(store_of(app).keys.batch(batch.bid), "abandon_at", 1)
    dead = []
    for _ in range(3):
        sweep(app)
        dead.append(batch.status().dead)
    assert dead[-1] == 23 and dead == sorted(set(dead))


def test_two_sweepers_at_once_write_off_once(app: Celery, redis: Redis) -> None:
    batch = die_at("P3", app)
    store_of(app).client.hset(store_of(app).keys.batch(batch.bid), "abandon_at", 1)
    threads = [threading.Thread(target=sweep, args=(app,)) for _ in range(8)]
    with hearing(redis, batch, b"!") as tokens:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts(batch.status()) == (12, 0, 12)
    assert batch.status().unsendable == {"never published": 12}
    assert b"".join(tokens) == b"-" * 12 + b"!"


def test_a_member_that_reports_while_it_is_written_off_is_not(app: Celery) -> None:
    """It had been read as waiting, and its first attempt failed before it was written off."""
    batch = die_at("P3", app, 1)
    (member,) = store_of(app).read_members(batch.bid, 0, 1)
    place = Membership(bid=batch.bid, index=0, task_id=member.id)
    store_of(app).record_outcome(place, Outcome(state=State.FAILING, attempt=1))
    assert store_of(app).record_outcome(place, lost_producers.never_published(member)).word == "repeated"
    give_up(app, batch)
    assert (batch.status().failing, batch.status().dead) == (1, 0)


def test_in_a_cancelled_batch_it_is_no_death(app: Celery) -> None:
    whole, cut = die_at("P3", app), die_at("P2#2", app)
    for batch in (whole, cut):
        batch.cancel()
    give_up(app, whole, cut)
    for batch in (whole, cut):
        status = batch.status()
        assert (status.state, status.death_at, status.success_at) == ("cancelled", None, None)
        assert status.finish_at and status.dead == status.total


def test_another_round_of_what_did_run_is_not_harmed(app: Celery) -> None:
    batch = die_at("P5", app)
    member = store_of(app).read_members(batch.bid, 11, 1)[0]
    place = Membership(bid=batch.bid, index=11, task_id=member.id)
    call = json.dumps({"id": member.id, "task": "proj.ok", "args": [], "kwargs": {}, "options": {}})
    failed = Outcome(state=State.DEAD, reason="failed", resend=call, unsendable="")
    store_of(app).record_outcome(place, failed)
    succeed(app, batch, *range(11))
    assert batch.retry() == 1
    give_up(app, batch)
    assert (batch.status().failing, batch.status().dead) == (1, 0), "it runs again, and nobody writes it off"
    store_of(app).record_outcome(dataclasses.replace(place, round=1), SUCCEEDED)
    assert batch.status().state == "success"


# -- a producer that comes back ---------------------------------------------------------------------


def test_a_producer_that_comes_back_to_enrol_is_told(app: Celery) -> None:
    batch = Batch(app=app)

    def items() -> Iterator[int]:
        yield from range(CHUNK)
        give_up(app, batch)
        yield 1

    with pytest.raises(BatchSealed, match="batches_abandon_after"):
        batch.map(task(app), items())
    assert batch.status().total == CHUNK


def test_a_producer_that_comes_back_does_not_put_off_what_was_begun(app: Celery) -> None:
    batch = die_at("P5-unconfirmed", app)
    store_of(app).client.hset(store_of(app).keys.batch(batch.bid), "abandon_at", 1)
    with striking("A1"), pytest.raises(Died):
        sweep(app)
    with pytest.raises(BatchSealed):
        store_of(app).confirm_members(batch.bid, [0], "owner")
    sweep(app)
    assert counts(batch.status()) == (12, 0, 7), "the first five left, it says"


@pytest.mark.parametrize("spec", ["P3", "P5-unconfirmed#2", "P5"])
def test_a_producer_that_comes_back_to_publish_or_to_seal_is_told(app: Celery, spec: str) -> None:
    batch = die_at(spec, app)
    give_up(app, batch)
    with pytest.raises(BatchSealed, match="batches_abandon_after"):
        batch.resume()
    if spec == "P5":
        with pytest.raises(BatchSealed, match="batches_abandon_after"):
            batch.seal()


def test_a_producer_that_slept_while_it_published_is_told_and_its_messages_count(app: Celery) -> None:
    batch = Batch(app=app)

    def sleep(*args: object) -> None:
        give_up(app, batch)

    point = failpoints.POINTS["P5-unconfirmed"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(BatchSealed, match="batches_abandon_after"):
        wrapped = failpoints.wrap(
            dataclasses.replace(point, strike=sleep), failpoints.parse("P5-unconfirmed")
        )
        patch.setattr(*failpoints.find(point.target), wrapped)
        fill(app, batch, 12)
    assert counts(batch.status()) == (12, 0, 12)
    succeed(app, batch, *range(CHUNK))
    assert counts(batch.status()) == (12, CHUNK, 12 - CHUNK)


def test_every_sign_of_life_puts_it_off(app: Celery) -> None:
    batch = Batch(app=app)
    seen = []

    def look(of: object = None) -> None:
        seen.append(abandon_at(app, batch))
        store_of(app).client.hset(store_of(app).keys.batch(batch.bid), "abandon_at", 1)

    def items() -> Iterator[int]:
        for n in range(3 * CHUNK):
            if n and n % CHUNK == 0:
                look()
            yield n

    batch.map(task(app), items())
    now = time.time() * 1000
    assert len(seen) == 2
    assert all(3_500_000 < at - now < 3_700_000 for at in seen)
    assert abandon_at(app, batch) == 0, "it is sealed, and all is confirmed"


def test_a_producer_that_resumes_in_time_loses_nothing(app: Celery) -> None:
    batch = Batch(app=app)
    with striking("P4#7", ConnectionError), pytest.raises(EnqueueError):
        fill(app, batch, 12)
    sweep(app)
    store_of(app).client.hset(store_of(app).keys.batch(batch.bid), "abandon_at", 1)
    with striking("P3"), pytest.raises(Died):
        batch.resume()
    assert abandon_at(app, batch) > 1, "before it publishes for long"
    batch.resume()
    give_up(app, batch)
    assert counts(batch.status()) == (12, 0, 0)
    succeed(app, batch)
    assert batch.status().state == "success"


def test_who_fills_a_child_is_not_missed_by_its_parent(app: Celery) -> None:
    parent = Batch(app=app)
    child = Batch(app=app, parent=parent)

    def items() -> Iterator[int]:
        yield from range(CHUNK)
        soon = round(time.time() * 1000) + 60_000
        store_of(app).client.hset(store_of(app).keys.batch(parent.bid), "abandon_at", soon)
        sweep(app)
        assert abandon_at(app, parent) == abandon_at(app, child) > soon

    with parent:
        child.map(task(app), items())


def test_a_slow_producer_is_left_alone_and_nothing_fires_before_the_seal(
    make_app: Callable[..., Celery], redis: Redis
) -> None:
    """T22: members end at once, the producer takes longer in all than anybody waits for a sign of it."""
    app = make_app(batches_abandon_after=3600)
    declare_tasks(app)
    batch = Batch(app=app, autoflush=1)
    with hearing(redis, batch, b"$") as tokens, batch:
        for _ in range(7):
            task(app).delay()
            succeed(app, batch)
            at = abandon_at(app, batch) - 3_000_000  # 50 minutes go by, of the hour that is waited
            store_of(app).client.hset(store_of(app).keys.batch(batch.bid), "abandon_at", at)
            sweep(app)
    assert b"".join(tokens) == b"+" * 7 + b"!$"
    assert batch.status().abandoned_at is None

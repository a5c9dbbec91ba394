"""Many threads share one `Batch`: every call is a member once, or its caller gets an error."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from celery import Celery

from celery_batches_notify import Batch, BatchSealed
from celery_batches_notify.producer import chunk
from tests.support.apps import open_app

THREADS, ROUNDS = 8, 12


@pytest.fixture
def app(redis: object, server_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    monkeypatch.setattr(chunk, "CHUNK", 4)
    with open_app(server_url, task_default_queue=f"q{uuid4().hex}") as app:
        yield app


def in_threads(work: Callable[[int], object]) -> list[BaseException]:
    """Run this in all threads at once; return the errors."""
    barrier = threading.Barrier(THREADS)

    def begin(n: int) -> object:
        barrier.wait(60)
        return work(n)

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(begin, n) for n in range(THREADS)]
    return [error for future in futures if (error := future.exception()) is not None]


def messages(app: Celery) -> Counter[tuple[str, int]]:
    """Return the ids and indexes that the messages at the broker name."""
    with app.connection_for_read() as connection:
        channel, queue = connection.default_channel, app.conf.task_default_queue
        found = iter(lambda: channel.basic_get(queue, no_ack=True), None)
        return Counter((m.headers["id"], m.headers["batches"]["index"]) for m in found)


def check(app: Celery, batch: Batch, calls: int) -> None:
    """Check that each call is a member with one message, which names its index."""
    store, total = batch._engine.store, batch.status().total
    members = [member for chunk in store.walk_members(batch.bid, total) for member in chunk]
    assert total == calls
    assert messages(app) == Counter((m.id, m.index) for m in members)
    assert list(store.walk_unconfirmed(batch.bid)) == []


@pytest.mark.parametrize("way", ["add", "map", "starmap"])
def test_calls_that_threads_make_through_one_kept_open_batch_are_exact(app: Celery, way: str) -> None:
    ok = app.tasks["proj.ok"]
    for _ in range(ROUNDS):
        batch = Batch(app=app, keep_open=True)

        def work(n: int, batch: Batch = batch) -> None:
            for k in range(3):
                if way == "add":
                    batch.add(*(ok.s(n) for _ in range(k)))
                elif way == "map":
                    batch.map(ok, range(3 * k))
                else:
                    batch.starmap(ok, ((n,) for _ in range(3 * k)))
                batch.status() if batch._enrolment.is_stored else None

        assert in_threads(work) == []
        batch.seal()
        check(app, batch, THREADS * (3 if way == "add" else 9))


@pytest.mark.parametrize("autoflush", [None, 3])
def test_threads_that_add_while_the_block_is_open_join_it(app: Celery, autoflush: int | None) -> None:
    ok = app.tasks["proj.ok"]
    for _ in range(ROUNDS):
        batch = Batch(app=app, autoflush=autoflush)
        with batch:
            assert in_threads(lambda _, batch=batch: batch.add(ok.s(), ok.s())) == []
            assert in_threads(lambda _, batch=batch: batch.map(ok, range(5))) == []
            if autoflush is None:
                assert messages(app) == Counter()
        check(app, batch, THREADS * 7)
        assert batch.status().sealed_at


def test_of_threads_that_add_to_a_batch_that_seals_one_wins_and_the_others_are_told(app: Celery) -> None:
    ok = app.tasks["proj.ok"]
    for _ in range(ROUNDS):
        batch = Batch(app=app)
        errors = in_threads(lambda n, batch=batch: batch.add(*(ok.s() for _ in range(n + 1))))
        assert len(errors) == THREADS - 1
        assert {type(error) for error in errors} == {BatchSealed}
        check(app, batch, batch.status().total)
        assert 1 <= batch.status().total <= THREADS


def test_a_seal_beside_threads_that_add_refuses_what_comes_after_it(app: Celery) -> None:
    ok = app.tasks["proj.ok"]
    for _ in range(ROUNDS):
        batch, added = Batch(app=app, keep_open=True), []

        def work(n: int, batch: Batch = batch, added: list[int] = added) -> None:
            if n == 0:
                batch.seal()
            else:
                batch.add(ok.s(), ok.s())
                added.append(2)

        errors = in_threads(work)
        assert {type(error) for error in errors} <= {BatchSealed}
        assert len(added) + len(errors) == THREADS - 1
        check(app, batch, sum(added))


def test_threads_that_end_and_add_at_once_lose_nothing(app: Celery) -> None:
    """The block ends while others add: each call is in it, or its caller gets an error."""
    ok = app.tasks["proj.ok"]
    for _ in range(ROUNDS):
        batch, added = Batch(app=app), []
        batch.__enter__()

        def work(n: int, batch: Batch = batch, added: list[int] = added) -> None:
            if n == 0:
                batch.__exit__(None, None, None)
            else:
                batch.add(ok.s())
                added.append(1)

        errors = in_threads(work)
        assert {type(error) for error in errors} <= {BatchSealed}
        check(app, batch, sum(added))

"""Interrupted batches: `resume()` finishes them, and no partial batch is sealed as complete."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from kombu.exceptions import EncodeError
from redis import Redis

from celery_batches_notify import Batch, BatchSealed, EnqueueError, StoreUnavailable, UnserialisableCall
from celery_batches_notify.producer import chunk
from celery_batches_notify.store.store import Store
from tests.support.servers import waiting_messages

CHUNK = 5


@pytest.fixture
def app(make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch) -> Celery:
    monkeypatch.setattr(chunk, "CHUNK", CHUNK)
    return declare(make_app())


def declare(app: Celery) -> Celery:
    @app.task(name="add", shared=False)
    def add(x: int = 0) -> int:
        return x

    @app.task(name="told", shared=False)
    def told(*_: object) -> None: ...

    return app


def break_broker(app: Celery, *refused: int) -> None:
    """Let the broker refuse these messages, counted from 1."""
    sender = app._batches_extension.engine.sender
    real, sent = sender.send, []

    def send(*args: object, **options: object) -> object:
        sent.append(1)
        if len(sent) in refused:
            raise ConnectionRefusedError("broker away")
        return real(*args, **options)

    sender.__dict__["send"] = send


def arguments(app: Celery) -> list[object]:
    return [m.payload[0][0] for m in waiting_messages(app) if m.headers["task"] == "add"]


def test_resume_goes_on_with_the_iterable_of_a_broken_map(app: Celery) -> None:
    break_broker(app, 8, 14)
    batch = Batch(app=app).on("success", app.tasks["told"].s())
    for step in (lambda: batch.map(app.tasks["add"], iter(range(23))), batch.resume):
        with pytest.raises(EnqueueError, match="goes on"):
            step()
        assert batch.status().state == "open"
        with pytest.raises(BatchSealed, match=r"resume\(\)"):
            batch.seal()
    batch.resume()
    assert arguments(app) == list(range(23))
    assert (batch.status().total, batch.status().state) == (23, "running")


def test_the_error_of_a_broker_that_refuses_can_be_pickled(app: Celery) -> None:
    break_broker(app, 2)
    batch = Batch(app=app)
    with pytest.raises(EnqueueError) as refused:
        batch.add(*(app.tasks["add"].s(n) for n in range(3)))
    again = pickle.loads(pickle.dumps(refused.value))
    assert (str(again), vars(again)) == (str(refused.value), vars(refused.value))
    batch.resume()


def test_resume_goes_on_with_a_map_that_the_store_interrupted(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch(app=app)
    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
        fail_once(patch, "confirm_members", nth=2)
        batch.map(app.tasks["add"], range(13))
    batch.resume()
    assert sorted(set(arguments(app))) == list(range(13))
    assert (batch.status().total, batch.status().state) == (13, "running")


def fail_once(patch: pytest.MonkeyPatch, name: str, nth: int) -> None:
    method, calls = getattr(Store, name), []

    def fails(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == nth:
            raise StoreUnavailable("the store is away")
        return method(*args, **kwargs)

    patch.setattr(Store, name, fails)


def test_after_an_iterable_that_raised_resume_leaves_the_batch_open_and_says_so(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    def items() -> Iterator[int]:
        yield from range(7)
        raise LookupError

    batch = Batch(app=app)
    with pytest.raises(LookupError):
        batch.map(app.tasks["add"], items())
    with caplog.at_level(logging.WARNING):
        batch.resume()
    assert f"batch {batch.bid}: stays open" in caplog.text
    assert (batch.status().state, batch.status().total) == ("open", 5)
    batch.map(app.tasks["add"], [5, 6, 7])
    assert (batch.status().state, batch.status().total) == ("running", 8)
    assert arguments(app) == list(range(8))


def test_calls_of_a_chunk_that_was_not_sent_are_not_sent_later(app: Celery) -> None:
    batch = Batch(app=app)
    with pytest.raises(UnserialisableCall) as refused:
        batch.map(app.tasks["add"], [1, 2, object()])
    assert isinstance(refused.value, EncodeError)
    assert batch.map(app.tasks["add"], [1, 2, 3]) == 3
    assert batch.status().total == 3
    assert arguments(app) == [1, 2, 3]


def test_an_autoflush_block_that_the_broker_broke_stays_open_after_resume(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    break_broker(app, 7)
    batch = Batch(app=app, autoflush=3)
    with pytest.raises(EnqueueError), batch:
        for n in range(20):
            app.tasks["add"].delay(n)
    with caplog.at_level(logging.WARNING):
        batch.resume()
    assert "stays open" in caplog.text
    assert (batch.status().state, batch.status().total, arguments(app)) == ("open", 9, list(range(9)))
    with batch:
        for n in range(9, 20):
            app.tasks["add"].delay(n)
    assert (batch.status().state, batch.status().total) == ("running", 20)


def test_an_autoflush_block_that_raises_is_not_sealed_as_whole(app: Celery) -> None:
    batch = Batch(app=app, autoflush=2)
    with pytest.raises(LookupError), batch:
        for n in range(3):
            app.tasks["add"].delay(n)
        raise LookupError
    batch.resume()
    assert (batch.status().state, batch.status().total, arguments(app)) == ("open", 2, [0, 1])


def test_a_seal_between_two_chunks_leaves_no_member_without_a_message(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch(app=app, keep_open=True)
    batch.add(app.tasks["add"].s(100))
    elsewhere = Batch.get(batch.bid, app=app)
    enrol, seen = Store.enrol_members, []

    def seal_after_first(*args: object, **kwargs: object) -> object:
        first = enrol(*args, **kwargs)
        seen.append(first)
        if len(seen) == 1:
            batch.seal()
        return first

    monkeypatch.setattr(Store, "enrol_members", seal_after_first)
    with pytest.raises(BatchSealed, match="5 calls are members and were sent, 6 were not made"), elsewhere:
        for n in range(11):
            app.tasks["add"].delay(n)
    elsewhere.resume()
    assert batch.status().total == 6
    assert arguments(app) == [100, 0, 1, 2, 3, 4]
    assert list(batch._engine.store.walk_unconfirmed(batch.bid)) == []


def test_a_block_is_not_sealed_while_it_is_open(app: Celery) -> None:
    batch = Batch(app=app, keep_open=True)
    with batch:
        app.tasks["add"].delay(1)
        with pytest.raises(BatchSealed, match="its block is open"):
            batch.seal()
    batch.seal()
    assert (batch.status().total, batch.status().state) == (1, "running")


def test_an_eager_call_that_the_store_missed_is_reported_once_and_never_sealed_away(
    make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = declare(make_app(task_always_eager=True))
    batch = Batch(app=app)
    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable), batch:
        fail_once(patch, "enrol_members", nth=1)
        app.tasks["add"].delay(1)
    batch.resume()
    assert (batch.status().state, batch.status().total) == ("open", 0)
    batch.add(app.tasks["add"].s(1))
    assert (batch.status().state, batch.status().total) == ("success", 1)


def test_an_eager_call_that_the_store_missed_keeps_a_batch_open_that_has_begun(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch(app=app, autoflush=1)
    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable), batch:
        app.tasks["add"].delay(1)
        app.conf.task_always_eager = True
        fail_once(patch, "enrol_members", nth=1)
        app.tasks["add"].delay(2)
    batch.resume()
    assert (batch.status().state, batch.status().total) == ("open", 1)


def test_a_map_that_is_caught_inside_a_block_ends_with_the_block(app: Celery) -> None:
    def items() -> Iterator[int]:
        yield from range(7)
        raise LookupError

    batch = Batch(app=app)
    with batch:
        with pytest.raises(LookupError):
            batch.map(app.tasks["add"], items())
        app.tasks["add"].delay(9)
    assert (batch.status().state, arguments(app)) == ("running", [0, 1, 2, 3, 4, 9])


def test_after_a_block_that_raised_resume_has_nothing_to_seal(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app).on("success", app.tasks["told"].si())
    with pytest.raises(LookupError), batch:
        app.tasks["add"].delay(1)
        raise LookupError
    batch.resume()
    assert (redis.dbsize(), waiting_messages(app)) == (0, [])
    batch.add(app.tasks["add"].s(2))
    assert (batch.status().state, arguments(app)) == ("running", [2])


@pytest.mark.parametrize("broken", [False, True], ids=["map", "resume"])
def test_only_its_end_seals_a_batch_while_an_iterable_is_read(app: Celery, broken: bool) -> None:
    """Calls that the iterable or another thread makes in between are not the last ones."""
    batch = Batch(app=app)

    def items() -> Iterator[int]:
        yield from range(CHUNK)
        batch.add(app.tasks["add"].s(100))
        with batch:
            app.tasks["add"].delay(101)
        assert batch.status().state == "open"
        yield from range(CHUNK, CHUNK + 2)

    if broken:
        break_broker(app, 1)
        with pytest.raises(EnqueueError):
            batch.map(app.tasks["add"], items())
        batch.resume()
    else:
        assert batch.map(app.tasks["add"], items()) == CHUNK + 2
    assert (batch.status().state, batch.status().total) == ("running", CHUNK + 4)
    assert sorted(arguments(app)) == [*range(CHUNK + 2), 100, 101]


def test_a_map_that_comes_after_the_seal_says_so_though_the_broker_fails_first(app: Celery) -> None:
    break_broker(app, 2, 3)
    batch = Batch(app=app, keep_open=True)
    with pytest.raises(EnqueueError):
        batch.add(*(app.tasks["add"].s(n) for n in range(3)))
    Batch.get(batch.bid, app=app).seal()
    with pytest.raises(EnqueueError):
        batch.map(app.tasks["add"], range(3, 5))
    with pytest.raises(BatchSealed, match="3 calls are members and were sent, 2 were not made"):
        batch.resume()
    batch.resume()
    assert (batch.status().total, arguments(app)) == (3, [0, 1, 2])

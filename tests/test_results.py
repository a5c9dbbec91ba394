from __future__ import annotations

import copy
import pickle
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from celery import Celery, group
from celery.app.base import _unpickle_appattr
from celery.backends.base import KeyValueStoreBackend
from celery.result import AsyncResult
from redis import Redis

from celery_batches_notify import Batch, BatchesError, ConfigurationError, NoSuchBatch
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.results import RESULTS_CHUNK
from celery_batches_notify.store.store import Store
from tests.support.servers import need


def installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def number(x: int) -> int:
    return x


@pytest.fixture(params=["redis", "filesystem", "database", "memory"])
def app(
    request: pytest.FixtureRequest, make_app: Callable[..., Celery], server_url: str, tmp_path: Path
) -> Iterator[Celery]:
    """Return an app with tasks, once per kind of result backend."""
    if request.param == "database":
        need("SQLAlchemy", installed("sqlalchemy"))
    url = {
        "redis": server_url,
        "filesystem": tmp_path.as_uri(),
        "database": f"db+sqlite:///{tmp_path}/results.sqlite",
        "memory": "cache+memory://",
    }[request.param]
    app = make_app(result_backend=url)
    app.task(number, name="number", shared=False)
    yield app
    close_results(app)


@pytest.fixture
def redis_app(make_app: Callable[..., Celery], server_url: str) -> Iterator[Celery]:
    app = make_app(result_backend=server_url)
    app.task(number, name="number", shared=False)
    yield app
    close_results(app)


def close_results(app: Celery) -> None:
    backend = app.backend
    if hasattr(backend, "result_consumer"):
        backend.result_consumer.stop()
        backend.client.close()
    if hasattr(backend, "session_manager"):
        backend.session_manager.get_engine(backend.url).dispose()


def keep(app: Celery, task_id: str, result: object, state: str = "SUCCESS", **more: object) -> None:
    app.backend.store_result(task_id, result, state, **more)


def test_results_come_in_the_order_of_the_calls_with_errors_and_blanks(app: Celery) -> None:
    batch = Batch(app=app)
    with batch:
        ids = [app.tasks["number"].apply_async((i,)).id for i in range(4)]
        ids.append(app.tasks["number"].apply_async((4,), task_id="row-4").id)
    keep(app, ids[3], {"rows": [1, "ü"]})
    keep(app, ids[0], 10)
    keep(app, ids[1], ValueError("no"), "FAILURE", traceback="Traceback …")
    keep(app, ids[4], "named")
    results = list(batch.status().results())
    assert [(r.index, r.task_id) for r in results] == list(enumerate(ids))
    assert [r.state for r in results] == ["SUCCESS", "FAILURE", "PENDING", "SUCCESS", "SUCCESS"]
    assert [results[i].result for i in (0, 2, 3, 4)] == [10, None, {"rows": [1, "ü"]}, "named"]
    error = results[1]
    assert isinstance(error.result, ValueError)
    assert (str(error.result), error.traceback) == ("no", "Traceback …")


def test_a_batch_without_members_has_no_results(redis_app: Celery) -> None:
    batch = Batch(app=redis_app)
    batch.seal()
    assert list(batch.join(1).results()) == []


def test_without_a_result_backend_the_mend_is_named_at_the_call(make_app: Callable[..., Celery]) -> None:
    batch = Batch(app=make_app())
    batch.seal()
    with pytest.raises(ConfigurationError, match=r"this app has none: set result_backend = "):
        batch.status().results()


def test_a_backend_that_keeps_nothing_is_refused(make_app: Callable[..., Celery]) -> None:
    batch = Batch(app=make_app(result_backend="rpc://"))
    batch.seal()
    with pytest.raises(ConfigurationError, match="rpc:// sends each to its caller once"):
        batch.status().results()


def test_a_status_that_was_copied_elsewhere_says_how_to_read_results(redis_app: Celery) -> None:
    batch = Batch(app=redis_app)
    batch.seal()
    status = batch.status()
    for copied in (pickle.loads(pickle.dumps(status)), copy.deepcopy(status)):
        assert copied == status
        with pytest.raises(BatchesError, match=r"Batch.get\(status.bid\).status\(\).results\(\)"):
            copied.results()


def test_the_reader_is_no_part_of_what_a_status_says(redis_app: Celery) -> None:
    batch = Batch(app=redis_app)
    batch.seal()
    status = batch.status()
    assert "reader" not in repr(status)
    assert "reader" not in status.as_dict()


def test_a_child_has_its_place_its_bid_and_its_state(redis_app: Celery) -> None:
    app = redis_app
    parent = Batch(app=app, keep_open=True)
    parent.add(app.tasks["number"].s(1))
    children = [Batch(app=app, parent=parent) for _ in range(3)]
    for child in children:
        child.add(app.tasks["number"].s(2))
    end(app, children[0], State.SUCCEEDED)
    end(app, children[1], State.DEAD)
    results = list(parent.status().results())
    assert [(r.task_id, r.is_batch) for r in results[1:]] == [(child.bid, True) for child in children]
    assert [r.state for r in results[1:]] == ["SUCCESS", "FAILURE", "PENDING"]
    assert not results[0].is_batch


def end(app: Celery, batch: Batch, state: State) -> None:
    """Report the only member of a batch, and publish the callbacks that become due."""
    engine = app._batches_extension.engine
    (only,) = batch.status().results()
    member = Membership(bid=batch.bid, index=0, task_id=only.task_id)
    recorded = engine.store.record_outcome(member, Outcome(state=state))
    engine.publisher.publish(batch.bid, recorded)


def test_members_added_after_the_reading_are_not_in_it(redis_app: Celery) -> None:
    batch = Batch(app=redis_app, keep_open=True)
    batch.add(redis_app.tasks["number"].s(1))
    status = batch.status()
    batch.add(redis_app.tasks["number"].s(2))
    assert len(list(status.results())) == 1
    assert len(list(batch.status().results())) == 2


def test_a_batch_that_went_away_meanwhile_is_named(redis_app: Celery) -> None:
    batch = Batch(app=redis_app)
    batch.add(redis_app.tasks["number"].s(1))
    status = batch.status()
    batch.delete()
    with pytest.raises(NoSuchBatch):
        list(status.results())


class OneByOne(KeyValueStoreBackend):
    """A key-value backend that cannot read many keys at once."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.kept: dict[object, object] = {}

    def get(self, key: object) -> object:
        return self.kept.get(key)

    def set(self, key: object, value: object) -> None:
        self.kept[key] = value


def test_a_backend_that_reads_one_key_at_a_time_is_asked_one_by_one(make_app: Callable[..., Celery]) -> None:
    app = make_app(result_backend=f"{__name__}:OneByOne")
    app.task(number, name="number", shared=False)
    batch = Batch(app=app)
    (first, _) = batch.add(app.tasks["number"].s(1), app.tasks["number"].s(2))
    keep(app, first.id, 1)
    assert [(r.state, r.result) for r in batch.status().results()] == [("SUCCESS", 1), ("PENDING", None)]


def enrol_many(app: Celery, batch: Batch, count: int) -> Store:
    """Enrol members without calls, 1,000 per script, as `Enrolment` does."""
    store: Store = app._batches_extension.engine.store
    batch._enrolment.open()
    for first in range(0, count, 1000):
        ids = [str(uuid.UUID(int=i + 1)) for i in range(first, min(first + 1000, count))]
        store.enrol_members(batch.bid, first, ids, "owner")
    return store


def test_results_are_read_in_chunks_and_begin_before_all_are_read(redis_app: Celery, redis: Redis) -> None:
    batch = Batch(app=redis_app)
    enrol_many(redis_app, batch, 2500)
    keep(redis_app, str(uuid.UUID(int=2500)), "last")
    results = batch.status().results()
    redis.config_resetstat()
    first = next(results)
    stats = redis.info("commandstats")
    assert first.index == 0
    assert (stats["cmdstat_mget"]["calls"], stats["cmdstat_getrange"]["calls"]) == (1, 3)
    *_, last = results
    assert (last.index, last.result) == (2499, "last")
    stats = redis.info("commandstats")
    assert (stats["cmdstat_mget"]["calls"], stats["cmdstat_getrange"]["calls"]) == (2500 / RESULTS_CHUNK, 9)


def test_memory_does_not_grow_with_the_members(redis_app: Celery, redis: Redis) -> None:
    def peak_of(count: int) -> int:
        batch = Batch(app=redis_app)
        enrol_many(redis_app, batch, count)
        status = batch.status()
        tracemalloc.start()
        try:
            assert sum(1 for _ in status.results()) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_of(1000)
    small, large = peak_of(1000), peak_of(30_000)
    # A kept result takes hundreds of bytes; the amount of uncollected garbage varies.
    assert (large - small) / 29_000 < 32


# -- pickles --------------------------------------------------------------------------------------


def load_in(app: Celery, pickled: bytes) -> object:
    """Load a pickle in a thread where this app is Celery's current one, as in the app's processes."""

    def load() -> object:
        app.set_current()
        return pickle.loads(pickled)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(load).result()


def test_a_result_survives_pickling_and_copying(redis_app: Celery) -> None:
    result = redis_app.tasks["number"].delay(1)
    loaded = load_in(redis_app, pickle.dumps(result))
    assert loaded == result
    assert type(loaded) is type(result)
    assert repr(loaded) == f"<AsyncResult: {result.id}>"
    keep(redis_app, result.id, 7)
    assert loaded.result == 7


def test_the_result_of_a_group_survives_pickling(redis_app: Celery) -> None:
    result = group(redis_app.tasks["number"].s(i) for i in range(3)).apply_async()
    loaded = load_in(redis_app, pickle.dumps(result))
    assert loaded == result
    for i, member in enumerate(result):
        keep(redis_app, member.id, i)
    assert [each.result for each in loaded] == [0, 1, 2]


def test_a_task_can_return_a_result_through_the_pickle_serializer(
    make_app: Callable[..., Celery], server_url: str
) -> None:
    app = make_app(result_backend=server_url, result_serializer="pickle", accept_content=["pickle"])
    app.task(number, name="number", shared=False)
    inner = app.tasks["number"].delay(1)
    keep(app, "outer", inner)

    def read() -> object:
        app.set_current()
        return app.AsyncResult("outer").result

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(read).result() == inner
    close_results(app)


class FormerPickle:
    """Pickles a result as if its class were still called `BlockAwareResult`."""

    def __init__(self, result: AsyncResult) -> None:
        self.args = result.__reduce_args__()

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickle_appattr, ("BlockAwareResult", self.args)


def test_a_pickle_made_under_the_class_s_former_name_still_loads(redis_app: Celery) -> None:
    result = redis_app.tasks["number"].delay(1)
    assert load_in(redis_app, pickle.dumps(FormerPickle(result))) == result

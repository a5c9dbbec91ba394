"""Over a bad connection to the store, calls are still enrolled and outcomes counted once."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, StoreUnavailable
from celery_batches_notify.membership import Membership, Outcome, State
from tests.projects.proj_tasks import declare_tasks
from tests.support.away import add_members, new_batch, spooled
from tests.support.cut_proxy import CutProxy, cut_proxy
from tests.support.servers import Ear, wait_until

SUCCEEDED = Outcome(state=State.SUCCEEDED)


def members_of(batch: Batch, count: int) -> list[Membership]:
    pages = batch._engine.store.walk_members(batch.bid, count)
    return [Membership(bid=batch.bid, index=m.index, task_id=m.id) for page in pages for m in page]


def report_all(app: Celery, batch: Batch, count: int) -> None:
    """Report all members from eight threads, as the children of a worker do."""
    reporter = app._batches_extension.engine.reporter
    members = members_of(batch, count)

    def report(mine: list[Membership]) -> None:
        for member in mine:
            reporter.report(member, SUCCEEDED, seconds=15)

    threads = [threading.Thread(target=report, args=(members[k::8],)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def shaky(
    make_app: Callable[..., Celery], server_url: str, tmp_path: Path
) -> Iterator[tuple[Celery, CutProxy]]:
    """Return an app with a bad connection to the store, without a worker."""
    with cut_proxy(server_url) as (proxy, url):
        app = make_app(batches_backend_url=url, batches_spool_dir=tmp_path)
        declare_tasks(app)
        yield app, proxy


@pytest.mark.parametrize(("mode", "count"), [("cut_reply", 1000), ("cut_mid_reply", 300)])
def test_replies_that_are_cut_leave_an_exact_count(
    shaky: tuple[Celery, CutProxy], redis: Redis, tmp_path: Path, mode: str, count: int
) -> None:
    app, proxy = shaky
    batch = add_members(new_batch(app), count, "ok")
    ear = Ear(redis)
    proxy.misbehave(mode, share=0.2)
    report_all(app, batch, count)
    assert proxy.struck > count / 10
    replay = app._batches_extension.engine.replay
    replay.start()
    wait_until(lambda: not spooled(tmp_path), what="an empty spool")
    replay.stop()
    proxy.behave()
    status = batch.status()
    assert (status.total, status.succeeded, status.state) == (count, count, "success")
    tokens = ear.listen()[batch.bid]
    ear.close()
    assert (tokens.count("+"), tokens.count("!"), tokens.count("$")) == (count, 1, 1)


def test_scripts_that_are_forgotten_all_the_time_are_nobodys_error(
    shaky: tuple[Celery, CutProxy], redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = shaky
    batch = add_members(new_batch(app), 2000, "ok")
    over = threading.Event()

    def flush() -> None:
        while not over.wait(0.01):
            redis.script_flush()

    flusher = threading.Thread(target=flush)
    flusher.start()
    report_all(app, batch, 2000)
    over.set()
    flusher.join()
    assert batch.status().state == "success"
    assert not spooled(tmp_path)
    ours = [record for record in caplog.records if record.name.startswith("celery_batches_notify")]
    assert not [record for record in ours if record.levelname in ("WARNING", "ERROR", "CRITICAL")]


def test_an_absence_costs_neither_memory_nor_threads(shaky: tuple[Celery, CutProxy], tmp_path: Path) -> None:
    app, proxy = shaky
    batch = add_members(new_batch(app), 1000, "ok")
    members = members_of(batch, 1000)
    reporter = app._batches_extension.engine.reporter
    proxy.misbehave("refuse")
    tracemalloc.start()
    try:
        sizes = []
        for part in (members[:500], members[500:]):
            for member in part:
                reporter.report(member, SUCCEEDED, seconds=0.2)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
            threads = threading.active_count()
    finally:
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < 100_000, "500 outcomes take more than that"
    assert threading.active_count() == threads
    assert spooled(tmp_path) == 1000


# -- producers --------------------------------------------------------------------------------------


def test_a_producer_whose_store_is_away_is_told_and_loses_no_call(
    shaky: tuple[Celery, CutProxy], tmp_path: Path
) -> None:
    app, proxy = shaky
    app._batches_extension.engine  # noqa: B018 - built while nothing is wrong
    proxy.misbehave("refuse")
    batch = Batch(app=app)
    with pytest.raises(StoreUnavailable, match="does not answer"), batch:
        for i in range(1100):
            app.tasks["proj.ok"].delay(i)
    with pytest.raises(StoreUnavailable):
        batch.resume()
    proxy.behave()
    batch.resume()
    status = batch.status()
    assert (status.total, status.sealed_at is not None) == (1100, True)


@pytest.mark.parametrize("mode", ["cut_reply", "cut_request"])
def test_a_producer_whose_replies_are_cut_enrols_no_call_twice(
    shaky: tuple[Celery, CutProxy], mode: str
) -> None:
    app, proxy = shaky
    for seed in range(4):
        batch = Batch(app=app)
        proxy.misbehave(mode, share=0.6)
        with suppress(StoreUnavailable), batch:
            for i in range(1100):
                app.tasks["proj.ok"].delay(i)
        for _ in range(5):
            with suppress(StoreUnavailable):
                batch.resume()
        proxy.behave()
        batch.resume()
        status = batch.status()
        assert (status.total, status.sealed_at is not None) == (1100, True), seed

"""Without a writable directory for temporary files, batches work as long as the store answers."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery

from celery_batches_notify import Batch
from celery_batches_notify.engine import Engine
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.worker.spool_records import Report, pack_line
from tests.support.cut_proxy import CutProxy, cut_proxy
from tests.support.servers import PATIENT

SUCCEEDED = Outcome(state=State.SUCCEEDED)


@pytest.fixture
def proxy(server_url: str) -> Iterator[tuple[CutProxy, str]]:
    with cut_proxy(server_url) as (proxy, url):
        yield proxy, url


@pytest.fixture
def app(
    make_app: Callable[..., Celery],
    proxy: tuple[CutProxy, str],
    no_temporary_directory: Path,
) -> Celery:
    app = make_app(batches_backend_url=proxy[1], batches_backend_options=PATIENT)
    app.task(do_nothing, name="do_nothing", shared=False)
    return app


def do_nothing() -> None:
    """Be a member."""


def test_batches_count_without_a_temporary_directory(app: Celery) -> None:
    with pytest.raises(FileNotFoundError):
        tempfile.gettempdir()
    batch, member = batch_of_one(app)
    engine_of(app).reporter.report(member, SUCCEEDED, seconds=30)
    assert batch.status().state == "success"


def test_a_worker_without_a_temporary_directory_logs_once_which_setting_helps(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        engine_of(app).replay.check_and_replay()
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "outcomes are lost while the store is away" in record.getMessage()
    assert "set batches_spool_dir" in record.getMessage()


def test_an_outcome_that_cannot_be_kept_names_the_setting_that_helps(
    app: Celery, proxy: tuple[CutProxy, str], caplog: pytest.LogCaptureFixture
) -> None:
    _, member = batch_of_one(app)
    proxy[0].misbehave("refuse")
    engine_of(app).reporter.report(member, SUCCEEDED, seconds=0)
    (record,) = [r for r in caplog.records if r.levelno == logging.CRITICAL]
    assert record.batches_bid == member.bid
    assert "set batches_spool_dir" in record.getMessage()


def test_a_spool_waits_in_the_directory_once_that_is_writable(
    app: Celery, no_temporary_directory: Path
) -> None:
    batch, member = batch_of_one(app)
    no_temporary_directory.unlink()
    no_temporary_directory.mkdir()
    engine_of(app).reporter._spool.append(pack_line(Report(member=member, outcome=SUCCEEDED)))
    engine_of(app).replay.check_and_replay()
    assert batch.status().state == "success"


def engine_of(app: Celery) -> Engine:
    return app._batches_extension.engine


def batch_of_one(app: Celery) -> tuple[Batch, Membership]:
    batch = Batch(app=app)
    (result,) = batch.add(app.tasks["do_nothing"].s())
    return batch, Membership(bid=batch.bid, index=0, task_id=result.id)

"""A store that is away is logged once for all threads of a worker, once a minute, and when it is back."""

from __future__ import annotations

import logging
import threading

import pytest

from celery_batches_notify.errors import StoreUnavailable
from celery_batches_notify.worker.away_log import AwayLog
from celery_batches_notify.worker.periodic import PeriodicThread
from tests.support.servers import wait_until

AWAY = StoreUnavailable("the batches' store at redis://h does not answer")


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def away(clock: Clock, caplog: pytest.LogCaptureFixture) -> AwayLog:
    caplog.set_level(logging.INFO, logger="celery_batches_notify")
    return AwayLog(clock)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    caplog.clear()
    return lines


def test_an_hour_without_the_store_is_a_warning_a_minute_and_one_line_at_its_end(
    away: AwayLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1800):
        away.failed(AWAY)
        clock.now += 2
    away.answered()
    away.answered()
    lines = logged(caplog)
    assert (
        lines[:-1]
        == [
            "WARNING batches: the batches' store at redis://h does not answer. "
            "Until it can be used, outcomes wait on this host's disk"
        ]
        * 60
    )
    assert lines[-1] == "INFO batches: the store can be used again, after 3600 s"


def test_a_store_that_comes_and_goes_is_no_more_than_a_warning_a_minute(
    away: AwayLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        away.failed(AWAY)
        away.answered()
        clock.now += 2
    assert [line.split()[0] for line in logged(caplog)] == ["WARNING", "INFO"]


def test_the_threads_of_a_worker_share_it(away: AwayLog, caplog: pytest.LogCaptureFixture) -> None:
    runs, is_away = dict.fromkeys("abc", 0), threading.Event()
    is_away.set()

    def read(name: str) -> None:
        runs[name] += 1
        if is_away.is_set():
            raise AWAY

    threads = [PeriodicThread(name, 0.01, lambda name=name: read(name), away) for name in runs]
    for thread in threads:
        thread.start()
    wait_until(lambda: min(runs.values()) > 3, what="three runs of each")
    is_away.clear()
    wait_until(lambda: len(caplog.records) == 2, what="the line that says that it is back")
    for thread in threads:
        thread.stop()
    assert [line.split()[0] for line in logged(caplog)] == ["WARNING", "INFO"]


def test_the_threads_of_a_worker_that_use_the_store_share_one_log(app: object) -> None:
    engine = app._batches_extension.engine  # type: ignore[attr-defined]
    asking = (engine.cancellation, engine.heartbeat, engine.sweeper)
    assert len({id(each._every._away) for each in asking}) == 1

"""`run_within`: its limit holds for everything that the work waits for."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from celery_batches_notify.notifiers.deadline import DeadlinePassed, run_within


class SoftTimeLimit(Exception):
    """Stands for Celery's exception, which a signal raises too."""


def test_it_returns_the_result_of_the_work() -> None:
    assert run_within(5, lambda: 42, never) == 42


def test_it_raises_the_exception_of_the_work() -> None:
    with pytest.raises(ZeroDivisionError):
        run_within(5, lambda: 1 // 0, never)


def test_a_timeout_of_the_work_itself_is_not_the_deadline() -> None:
    def work() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        run_within(5, work, never)


def test_work_that_takes_too_long_is_aborted_and_left_behind() -> None:
    stop = threading.Event()
    start = time.monotonic()
    with pytest.raises(DeadlinePassed):
        run_within(0.1, lambda: stop.wait(60), stop.set)
    assert time.monotonic() - start < 30
    assert stop.is_set()


def test_an_interrupted_caller_stops_the_work_and_sees_its_own_error() -> None:
    def interrupt(*_: object) -> None:
        raise SoftTimeLimit

    stop = threading.Event()
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(SoftTimeLimit):
            run_within(60, lambda: (os.kill(os.getpid(), signal.SIGUSR1), stop.wait(60)), stop.set)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert stop.is_set()


def never() -> None:
    pytest.fail("there was nothing to abort")

"""`quiet_loggers`: other libraries do not log our addresses, and lose no message of anybody else."""

from __future__ import annotations

import logging
import threading

import pytest

from celery_batches_notify.notifiers.quiet_loggers import quiet_loggers

LOGGER = logging.getLogger("somebody.else")


def test_messages_inside_are_dropped_and_warnings_are_collected(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with quiet_loggers(LOGGER.name) as heard:
        LOGGER.debug("secret")
        LOGGER.warning("secret %s", "warning")
    assert caplog.text == ""
    assert heard == ["secret warning"]


def test_warnings_are_heard_though_the_worker_logs_errors_only(caplog: pytest.LogCaptureFixture) -> None:
    quiet = logging.getLogger("somebody.quiet")
    caplog.set_level(logging.ERROR)
    with quiet_loggers(quiet.name) as heard:
        quiet.warning("the reason")
    assert heard == ["the reason"]
    quiet.warning("outside")
    quiet.error("an error outside")
    assert [record.message for record in caplog.records] == ["an error outside"]


def test_messages_outside_stay(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    LOGGER.info("before")
    with quiet_loggers(LOGGER.name):
        other = threading.Thread(target=LOGGER.info, args=("another thread",))
        other.start()
        other.join()
        logging.getLogger("unnamed").info("another logger")
    LOGGER.info("after")
    assert [record.message for record in caplog.records] == [
        "before",
        "another thread",
        "another logger",
        "after",
    ]


def test_many_calls_leave_one_filter() -> None:
    for _ in range(5):
        with quiet_loggers("a.third"):
            pass
    assert len(logging.getLogger("a.third").filters) == 1

"""`hush`: other libraries' logs say nothing of ours, and lose nothing of anybody else's."""

from __future__ import annotations

import logging
import threading

import pytest

from celery_batches_notify.notifiers.quiet_loggers import hush

LOGGER = logging.getLogger("somebody.else")


def test_what_is_said_inside_is_dropped_and_warnings_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with hush(LOGGER.name) as heard:
        LOGGER.debug("secret")
        LOGGER.warning("secret %s", "warning")
    assert caplog.text == ""
    assert heard == ["secret warning"]


def test_warnings_are_heard_though_the_worker_logs_errors_only(caplog: pytest.LogCaptureFixture) -> None:
    quiet = logging.getLogger("somebody.quiet")
    caplog.set_level(logging.ERROR)
    with hush(quiet.name) as heard:
        quiet.warning("the reason")
    assert heard == ["the reason"]
    quiet.warning("outside")
    quiet.error("an error outside")
    assert [record.message for record in caplog.records] == ["an error outside"]


def test_what_is_said_outside_stays(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    LOGGER.info("before")
    with hush(LOGGER.name):
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
        with hush("a.third"):
            pass
    assert len(logging.getLogger("a.third").filters) == 1

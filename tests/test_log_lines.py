"""Log lines name their batch in the text and in fields that collide with no other."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.app.defaults import DEFAULT_PROCESS_LOG_FMT, DEFAULT_TASK_LOG_FMT
from celery.app.log import TaskFormatter

import celery_batches_notify
from celery_batches_notify import Batch
from celery_batches_notify.log_lines import PREFIX, BatchLog, Fields, log_fields
from celery_batches_notify.membership import Membership, Outcome, State

PACKAGE = Path(celery_batches_notify.__file__).parent
LEVELS = ("debug", "info", "warning", "error", "exception", "critical", "log")
# Lines without a single batch, which are written without a `BatchLog`.
ABOUT_NO_BATCH = {
    "batches: the result backend does not watch for results of a block: %r",
    "batches are not counted: %s",
    "not traced: %r",
    "batches: %s %s was not tested with this version of celery-batches-notify, "
    "which was tested with %s to %s",
    "batches: %s",
    "batches live in %s (from %s)",
    "batches_backend_url is not set: batches live beside the broker's queues in %s; set it, to the "
    "same URL if you like, to silence this warning",
    "batches: unknown setting %s",
    "batches: batches_notifications: unknown notifier %s",
    "batches: an entry of their list is left out: %s",
    "batches: this worker's lease has not begun yet: %s",
    "batches: this worker's lease was not ended, so it will run out: %s",
    "batches: tasks that begin now are recorded by the next beat only: %s",
    "batches: outcomes are lost while the store is away: %s",
    "batches: %d outcomes from the spool are reported",
    "batches: a line of the spool is left out: %s",
    "batches: followers hear no tokens until the next subscription: %s",
    "batches: following ended",
    "sweeper's lock not released: %s",
    "batches: the record of task %s cannot be read: %r",
    "batches: lost worker %s is left: %s",
    "batches: the %s thread failed and tries again: %s",
    "batches: the %s thread failed and tries again",
    "batches: outcomes are kept in %s for now: %r",
    "batches: %s. Until it can be used, outcomes wait on this host's disk",
    "batches: the store can be used again, after %.0f s",
    "calls of %s are made by Celery one by one: %s",
    "the lock of a call of %s is not released: %s",
    "calls in batches are made by Celery one by one: %s",
    "messages of %s take a slower way than %s: %s",
}
logger = logging.getLogger("celery_batches_notify.tests")


# -- every log call of the package ----------------------------------------------------------------


def calls_of_the_package() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and path.name != "log_lines.py":
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def plain_log_calls() -> Iterator[tuple[str, str | None, ast.Call]]:
    """Yield the calls of a module's logger, each with its position and its message."""
    for place, call in calls_of_the_package():
        match call.func:
            case ast.Attribute(value=ast.Name(id="logger"), attr=method) if method in LEVELS:
                message = call.args[1 if method == "log" else 0]
                yield place, message.value if isinstance(message, ast.Constant) else None, call


def test_a_line_without_a_batch_is_one_that_is_known_to_be_about_none() -> None:
    found = [(place, message) for place, message, _ in plain_log_calls()]
    assert [(place, message) for place, message in found if message not in ABOUT_NO_BATCH] == []
    assert {message for _, message in found} == ABOUT_NO_BATCH


def test_every_logger_of_the_package_has_the_name_that_these_tests_look_for() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        made = text.count("getLogger(__name__)")
        assert made == text.count("\nlogger = logging.getLogger(__name__)\n"), path


def test_every_field_of_a_line_comes_from_the_one_vocabulary() -> None:
    for place, call in calls_of_the_package():
        for keyword in call.keywords:
            if keyword.arg == "extra":
                made_by = keyword.value.func if isinstance(keyword.value, ast.Call) else None
                assert isinstance(made_by, ast.Name) and made_by.id == "log_fields", place


def test_a_line_with_an_event_names_its_channel_too() -> None:
    makers = [
        c for c in calls_of_the_package() if isinstance(c[1].func, ast.Name) and c[1].func.id == "BatchLog"
    ]
    assert len(makers) > 10
    for place, call in makers:
        names = {keyword.arg for keyword in call.keywords}
        assert "bid" in names, place
        assert ("event" in names) == ("channel" in names), place


# -- words and fields -----------------------------------------------------------------------------


def test_the_fields_collide_with_no_attribute_of_a_record_and_no_word_of_others() -> None:
    record = logging.makeLogRecord({})
    theirs = {
        *vars(record),
        "message",
        "asctime",
        "task_id",
        "task_name",
        "event",
        "level",
        "logger",
        "timestamp",
    }
    theirs |= {"data", "dd.trace_id", "request_id", "user_id", "ip", "exception", "span_id", "trace_id"}
    names = {PREFIX + name for name in ("bid", *Fields.__annotations__)}
    assert not names & theirs
    assert log_fields(event="finish", task_id="t") == {"batches_event": "finish", "batches_task_id": "t"}


def test_a_line_is_the_same_message_for_all_batches(caplog: pytest.LogCaptureFixture) -> None:
    for bid in ("bid-a-0123456789", "bid-b-0123456789"):
        BatchLog(logger, bid=bid, event="finish", channel="email").warning("refused by %s", "100 %s of them")
    one, other = caplog.records
    assert one.msg == other.msg == "batch %s %r by %s: refused by %s"
    assert one.getMessage() == "batch bid-a-0123456789 'finish' by email: refused by 100 %s of them"
    assert (one.funcName, one.levelname) == (
        "test_a_line_is_the_same_message_for_all_batches",
        "WARNING",
    )


def test_a_line_with_a_traceback_keeps_it(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError:
        BatchLog(logger, bid="bid-a-0123456789").exception("not done")
    (record,) = caplog.records
    assert record.getMessage() == "batch bid-a-0123456789: not done"
    assert record.exc_info and record.exc_info[0] is ZeroDivisionError
    assert record.levelname == "ERROR"


# -- what a worker writes -------------------------------------------------------------------------


class AsStructlogDoes(logging.Formatter):
    """Render a record as structlog's `ExtraAdder` does: extras go beside its own keys, and override them."""

    def format(self, record: logging.LogRecord) -> str:
        own = vars(logging.makeLogRecord({}))
        line: dict[str, Any] = {
            "event": record.getMessage(),
            "level": record.levelname,
            "logger": record.name,
        }
        return json.dumps(line | {key: value for key, value in vars(record).items() if key not in own})


@pytest.fixture
def failed(
    make_app: Callable[..., Celery], caplog: pytest.LogCaptureFixture
) -> tuple[str, logging.LogRecord]:
    """Let a notification fail; return the batch's id and the log line."""
    app = make_app(batches_notifications={"webhook": {"url": "http://127.0.0.1:1/hush"}})
    batch = Batch(app=app).on("complete", "webhook")
    batch.seal()
    app._batches_extension.engine.attempts.run(batch.bid, "complete:0")
    (record,) = caplog.records
    return batch.bid, record


@pytest.mark.parametrize(
    "formatter",
    [logging.Formatter(DEFAULT_PROCESS_LOG_FMT), TaskFormatter(DEFAULT_TASK_LOG_FMT)],
    ids=["process", "task"],
)
def test_celery_s_own_format_shows_which_delivery_failed(
    failed: tuple[str, logging.LogRecord], formatter: logging.Formatter
) -> None:
    bid, record = failed
    line = formatter.format(record)
    assert f"batch {bid} 'complete' by webhook: failed (attempt 1 of 8): http://127.0.0.1:1: " in line
    assert "hush" not in line


def test_structlog_shows_why_a_delivery_failed(failed: tuple[str, logging.LogRecord]) -> None:
    bid, record = failed
    line = json.loads(AsStructlogDoes().format(record))
    assert line["event"].startswith(f"batch {bid} 'complete' by webhook: failed")
    assert line["batches_bid"] == bid
    assert (line["batches_event"], line["batches_channel"], line["batches_attempt"]) == (
        "complete",
        "webhook",
        1,
    )


def test_an_outcome_that_changes_nothing_is_named_with_batch_and_task(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    batch = Batch(app=app)
    batch.seal()
    stranger = Membership(bid=batch.bid, index=7, task_id="a-stranger")
    app._batches_extension.engine.reporter.report(stranger, Outcome(state=State.SUCCEEDED), seconds=0)
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith(f"batch {batch.bid}: the outcome of task a-stranger changes nothing: ")
    assert (record.batches_bid, record.batches_task_id, record.batches_state) == (
        batch.bid,
        "a-stranger",
        "succeeded",
    )

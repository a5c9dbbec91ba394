"""The words of a chat message."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from celery_batches_notify.headline import Verdict
from celery_batches_notify.model import Event, Notification, Origin
from celery_batches_notify.notifiers.summary import summarise
from tests.support import samples

NOW = samples.CREATED_AT + timedelta(hours=2)


def facts(notification: Notification) -> dict[str, str]:
    return dict(summarise(notification).facts)


def test_a_success_is_green_and_short() -> None:
    summary = summarise(samples.notification())
    assert summary.verdict == Verdict.SUCCEEDED
    assert summary.lines == (
        "✓ All 50 succeeded: Import rows",
        "Succeeded: 50 of 50 · Took: 3 min 12 s · Tags: customer:42",
    )
    assert summary.url == f"https://ops.test/{samples.BID}"


def test_failures_of_one_kind_are_one_line_with_one_example() -> None:
    failures = [
        *(samples.failure(error_class="IntegrityError", error_message=f"row {n}") for n in range(15)),
        *(samples.failure(task="proj.tasks.mail", error_message="no such user") for _ in range(2)),
        samples.failure(task="proj.other.mail", error_message="no such user"),
        samples.failure(error_class="django.db.utils.DataError", error_message="x" * 500),
        samples.failure(error_class="KeyError", error_message="'zip'"),
    ]
    summary = summarise(samples.failing(500, dead=15, failure_info=tuple(failures)))
    assert summary.verdict == Verdict.DEAD
    assert summary.error_lines == (
        "15 × IntegrityError in import_row: row 0",
        "2 × ValueError in mail: no such user",
        "ValueError in mail: no such user",
        "… and 482 more",
    )
    assert summarise(samples.failing(1)).error_lines == ("ValueError in import_row: Something failed 0",)


def test_retries_and_failures_for_good_are_counted_apart() -> None:
    told = facts(samples.notification(Event.DEATH, succeeded=9, pending=41, failures=3, dead=1))
    assert told["Succeeded"] == "9 of 50"
    assert (told["Failed for good"], told["Will be retried"], told["Not run yet"]) == ("1", "2", "38")


def test_the_time_is_that_of_the_event_or_else_of_the_end() -> None:
    at = samples.CREATED_AT
    times = {"complete_at": at + timedelta(seconds=60), "finish_at": at + timedelta(hours=2), "death_at": at}
    assert facts(samples.notification(Event.COMPLETE, **times))["Took"] == "1 min"
    assert facts(samples.notification(Event.DEATH, **times))["Took"] == "2 h"
    assert "Took" not in facts(samples.notification(Event.DEATH, finish_at=None))


def running(event: Event, **changes: Any) -> Notification:
    values = {"succeeded": 20, "pending": 30, "finish_at": None, "complete_at": None, "success_at": None}
    return replace(samples.notification(event, **(values | changes)), read_at=NOW)


def test_a_late_or_stalled_batch_shows_its_limit_and_its_age() -> None:
    late = facts(replace(running(Event.DEADLINE), limit=timedelta(hours=1)))
    assert (late["Running for"], late["Limit"]) == ("2 h", "1 h")
    moved_at = NOW - timedelta(minutes=30)
    still = replace(running(Event.STALL, moved_at=moved_at), limit=timedelta(minutes=15))
    assert facts(still)["Last moved"] == "2026-11-02 11:30:00 UTC"
    assert facts(still)["Limit"] == "15 min"


def test_progress_says_how_long_it_has_run_and_how_long_it_will() -> None:
    told = facts(running(Event.PROGRESS))
    assert (told["Running for"], told["Left"]) == ("2 h", "about 3 h")
    assert "Left" not in facts(running(Event.PROGRESS, succeeded=0, pending=50))


def test_times_are_those_of_the_systems_zone() -> None:
    moved = running(Event.STALL, moved_at=NOW)
    there = Origin(timezone=ZoneInfo("Asia/Kolkata"))
    assert facts(replace(moved, origin=there))["Last moved"] == "2026-11-02 17:30:00 IST"


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        (Origin(name="billing", environment="staging"), "billing (staging)"),
        (Origin(name="billing"), "billing"),
        (Origin(environment="staging"), "staging"),
        (Origin(), None),
    ],
)
def test_the_system_and_its_environment_are_named(origin: Origin, shown: str | None) -> None:
    assert facts(replace(samples.notification(), origin=origin)).get("System") == shown


def test_the_next_step_is_a_command_where_there_is_no_page() -> None:
    bad = samples.failing()
    alone = replace(bad, url=None, origin=Origin(app="proj"))
    assert summarise(alone).next_step == f"celery -A proj batch doctor {samples.BID}"
    assert summarise(alone).lines[-1] == summarise(alone).next_step
    assert summarise(replace(alone, origin=Origin())).next_step == f"celery batch doctor {samples.BID}"
    for other in (bad, replace(samples.notification(), url=None)):
        assert summarise(other).next_step == ""
    assert summarise(alone, "messages").next_step == ""  # it is for the people of the house


def test_large_numbers_can_be_read() -> None:
    many = samples.notification(total=1_000_000, succeeded=999_999)
    assert facts(many)["Succeeded"] == "999,999 of 1,000,000"


def test_an_empty_batch_has_no_tasks() -> None:
    assert facts(samples.notification(total=0, succeeded=0))["Succeeded"] == "no tasks"


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "https://x/ y",
        'https://x/"',
        "https://x/<b>",
        "https://x/|y",
        "https://" + "x" * 999,
    ],
)
def test_a_page_that_is_no_plain_address_is_not_linked(url: str) -> None:
    assert summarise(samples.notification(url=url)).url is None


@pytest.mark.parametrize("text", samples.HOSTILE)
def test_hostile_texts_end_up_on_short_lines(text: str) -> None:
    summary = summarise(samples.hostile(text))
    for line in (*summary.lines, *(value for _, value in summary.facts)):
        assert len(line) <= 400
        assert line.isprintable() or "\u200d" in line

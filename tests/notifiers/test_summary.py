"""The words of a message: what they say, and of what."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import samples

from celery_batches_notify.model import Event, Notification
from celery_batches_notify.notifiers.summary import Verdict, describe_duration, summarise


def facts(notification: Notification) -> dict[str, str]:
    return dict(summarise(notification).facts)


def test_a_success_is_green_and_short() -> None:
    summary = summarise(samples.notification())
    assert summary.verdict == Verdict.SUCCEEDED
    assert summary.lines == (
        "✅ Import rows succeeded",
        "Tasks: 50 of 50 succeeded · Took: 3 min 12 s · Tags: customer:42",
    )
    assert summary.url == f"https://ops.test/{samples.BID}"


def test_failures_are_told_with_their_first_errors_and_the_number_of_others() -> None:
    summary = summarise(samples.failing(7, dead=0))
    assert summary.verdict == Verdict.FAILING
    assert dict(summary.facts)["Tasks"] == "7 of 14 succeeded"
    assert dict(summary.facts)["Failed"] == "7 to be retried"
    assert summary.error_lines == (
        "ValueError: Something failed 0 (proj.tasks.import_row)",
        "ValueError: Something failed 1 (proj.tasks.import_row)",
        "ValueError: Something failed 2 (proj.tasks.import_row)",
        "… and 4 more",
    )


@pytest.mark.parametrize(
    ("event", "changes", "verdict"),
    [
        (Event.SUCCESS, {}, Verdict.SUCCEEDED),
        (Event.COMPLETE, {}, Verdict.SUCCEEDED),
        (Event.COMPLETE, {"failures": 1, "pending": 1}, Verdict.FAILING),
        (Event.COMPLETE, {"failures": 2, "pending": 2, "dead": 1}, Verdict.DEAD),
        (Event.FINISH, {"failures": 2, "pending": 2, "dead": 2}, Verdict.DEAD),
        (Event.DEATH, {"failures": 1, "pending": 40, "dead": 1}, Verdict.DEAD),
        (Event.STALL, {"pending": 40, "succeeded": 10}, Verdict.FAILING),
        (Event.DEADLINE, {"pending": 40, "succeeded": 10}, Verdict.FAILING),
        (Event.DEADLINE, {"pending": 40, "succeeded": 9, "failures": 1, "dead": 1}, Verdict.DEAD),
        (Event.PROGRESS, {"pending": 40, "succeeded": 10}, Verdict.SUCCEEDED),
        (Event.CANCEL, {"dead": 2, "failures": 2, "cancelled_at": samples.CREATED_AT}, Verdict.FAILING),
        (Event.FINISH, {"dead": 2, "failures": 2, "cancelled_at": samples.CREATED_AT}, Verdict.FAILING),
    ],
)
def test_the_verdict_follows_the_outcome(event: Event, changes: dict[str, Any], verdict: Verdict) -> None:
    assert summarise(samples.notification(event, **changes)).verdict == verdict


def test_a_death_says_how_many_are_still_waiting() -> None:
    told = facts(samples.notification(Event.DEATH, succeeded=9, pending=41, failures=3, dead=1))
    assert told["Failed"] == "2 to be retried, 1 for good"
    assert told["Waiting"] == "38"


def test_the_time_is_that_of_the_event_or_else_of_the_end() -> None:
    at = samples.CREATED_AT
    times = {
        "complete_at": at + timedelta(seconds=60),
        "finish_at": at + timedelta(hours=2),
        "death_at": None,
    }
    assert facts(samples.notification(Event.COMPLETE, **times))["Took"] == "1 min"
    assert facts(samples.notification(Event.DEATH, **times))["Took"] == "2 h"
    assert "Took" not in facts(samples.notification(Event.DEATH, finish_at=None))


def test_large_numbers_can_be_read() -> None:
    assert (
        facts(samples.notification(total=1_000_000, succeeded=999_999))["Tasks"]
        == "999,999 of 1,000,000 succeeded"
    )


def test_an_empty_batch_has_no_tasks() -> None:
    assert facts(samples.notification(total=0, succeeded=0))["Tasks"] == "none"


def test_a_batch_without_a_description_goes_by_its_id() -> None:
    assert summarise(samples.notification(description="")).title == f"{samples.BID} succeeded"
    assert summarise(samples.notification(description="\n\t\x00")).title == f"{samples.BID} succeeded"


def test_a_long_description_does_not_push_out_what_happened() -> None:
    title = summarise(samples.notification(description="word " * 500)).title
    assert len(title) <= 150
    assert title.endswith("… succeeded")


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


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0.0 s"),
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (192, "3 min 12 s"),
        (3_600, "1 h"),
        (7_500, "2 h 5 min"),
        (86_400, "1 d"),
        (90_061, "1 d 1 h"),
        (86_401, "1 d"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert describe_duration(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize("text", samples.HOSTILE)
def test_hostile_texts_end_up_on_short_lines(text: str) -> None:
    summary = summarise(samples.hostile(text))
    for line in (*summary.lines, *(value for _, value in summary.facts)):
        assert len(line) <= 400
        assert line.isprintable() or "\u200d" in line

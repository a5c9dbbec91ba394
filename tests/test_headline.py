"""The one line that says how a batch goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_batches_notify.headline import Verdict, describe_duration, headline, judge
from celery_batches_notify.model import STATES, BatchStatus, Event, Notification

CREATED_AT = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
NOW = CREATED_AT + timedelta(hours=2)
BID = "kJ3fXoTq0Zy1nN8vWc5uRg"


def status(total: int, *, succeeded: int = 0, failing: int = 0, dead: int = 0, **changes: Any) -> BatchStatus:
    values: dict[str, Any] = {
        "bid": BID,
        "description": "Nightly import",
        "tags": (),
        "state": "running",
        "total": total,
        "pending": total - succeeded,
        "succeeded": succeeded,
        "failures": failing + dead,
        "dead": dead,
        "created_at": CREATED_AT,
        "sealed_at": CREATED_AT,
    }
    return BatchStatus(**(values | changes))


MANY = {"total": 12_480, "succeeded": 12_431}
HALF = {"total": 12_480, "succeeded": 6_225}


@pytest.mark.parametrize(
    ("event", "counts", "line"),
    [
        ("success", {"total": 12_480, "succeeded": 12_480}, "✓ All 12,480 succeeded"),
        ("complete", {"total": 12_480, "succeeded": 12_480}, "✓ All 12,480 succeeded"),
        ("finish", {"total": 1, "succeeded": 1}, "✓ The only task succeeded"),
        ("success", {"total": 0}, "✓ There was nothing to do"),
        (
            "complete",
            MANY | {"dead": 15, "failing": 34},
            "✗ 15 of 12,480 failed for good, 34 will be retried",
        ),
        ("complete", MANY | {"failing": 49}, "⚠ 49 of 12,480 failed and will be retried"),
        ("finish", MANY | {"dead": 49}, "✗ 49 of 12,480 failed for good"),
        ("death", HALF | {"dead": 1}, "✗ 1 of 12,480 failed for good"),
        ("death", HALF, "✗ A batch inside it has a failure for good, 6,225 of 12,480 succeeded"),
        ("finish", {"total": 1, "dead": 1}, "✗ The only task failed for good"),
        ("complete", {"total": 1, "failing": 1}, "⚠ The only task failed and will be retried"),
        ("complete", HALF, "▸ 49% done after 2 h, 6,225 of 12,480 succeeded"),
        (
            "finish",
            {"total": 40, "succeeded": 40, "cut_short": True},
            "✗ Not all of its calls were made; the 40 that were succeeded",
        ),
        ("cancel", HALF | {"cancelled_at": NOW}, "⚠ Cancelled, 6,225 of 12,480 succeeded"),
        ("finish", HALF | {"dead": 6_255, "cancelled_at": NOW}, "⚠ Cancelled, 6,225 of 12,480 succeeded"),
        ("success", {"total": 3, "succeeded": 3, "cancelled_at": NOW}, "✓ All 3 succeeded"),
        ("deadline", HALF, "⚠ Not finished within 1 h 30 min, 6,225 of 12,480 succeeded"),
        (
            "deadline",
            HALF | {"dead": 15},
            "✗ Not finished within 1 h 30 min, 6,225 of 12,480 succeeded, 15 failed for good",
        ),
        (
            "stall",
            HALF | {"moved_at": NOW - timedelta(minutes=95)},
            "⚠ Nothing has moved for 1 h 35 min, 6,225 of 12,480 succeeded",
        ),
        (None, HALF, "▸ 49% done after 2 h, 6,225 of 12,480 succeeded"),
        (
            None,
            HALF | {"state": "open"},
            "▸ Open: calls are still being added, 6,225 of 12,480 succeeded",
        ),
        ("progress", HALF, "▸ 49% done after 2 h, 6,225 of 12,480 succeeded"),
        (
            "progress",
            HALF | {"dead": 15, "failing": 2},
            "✗ 50% done after 2 h, 6,225 of 12,480 succeeded, 15 failed for good, 2 will be retried",
        ),
        (
            "progress",
            {"total": 12_480, "succeeded": 12_479},
            "▸ 99% done after 2 h, 12,479 of 12,480 succeeded",
        ),
    ],
)
def test_it_says_how_it_went_before_it_says_what(event: str, counts: dict[str, Any], line: str) -> None:
    shown = headline(status(**counts), event, now=NOW, limit=timedelta(minutes=90))
    assert shown == f"{line}: Nightly import"


@pytest.mark.parametrize(
    ("state", "counts", "line"),
    [
        ("success", {"total": 3, "succeeded": 3}, "✓ All 3 succeeded"),
        ("cancelled", {"total": 3, "succeeded": 1, "cancelled_at": NOW}, "⚠ Cancelled, 1 of 3 succeeded"),
        ("dead", {"total": 3, "succeeded": 1, "dead": 2}, "✗ 2 of 3 failed for good"),
        ("stalled", {"total": 3, "succeeded": 1}, "⚠ Nothing moves, 1 of 3 succeeded"),
        ("complete", {"total": 3, "succeeded": 1, "failing": 2}, "⚠ 2 of 3 failed and will be retried"),
        ("running", {"total": 3, "succeeded": 1}, "▸ 33% done, 1 of 3 succeeded"),
        ("open", {"total": 0, "sealed_at": None}, "▸ No tasks yet"),
    ],
)
def test_without_an_event_the_state_says_it(state: str, counts: dict[str, Any], line: str) -> None:
    assert headline(status(**counts, state=state)) == f"{line}: Nightly import"


def test_without_a_limit_or_a_clock_it_makes_none_up() -> None:
    late = status(**HALF)
    assert headline(late, "deadline") == "⚠ Not finished in time, 6,225 of 12,480 succeeded: Nightly import"
    assert headline(late, "stall") == "⚠ Nothing moves, 6,225 of 12,480 succeeded: Nightly import"


def test_once_finished_it_counts_no_time_because_a_retry_comes_days_later() -> None:
    again = status(**HALF, finish_at=CREATED_AT)
    assert headline(again, now=NOW) == "▸ 49% done, 6,225 of 12,480 succeeded: Nightly import"


def test_a_batch_without_a_description_goes_by_its_id() -> None:
    for nothing in ("", "\n\t\x00"):
        assert headline(status(1, succeeded=1, description=nothing)).endswith(f": {BID}")


def test_a_long_description_does_not_push_the_news_out_of_sight() -> None:
    line = headline(status(3, dead=1, description="word " * 500), "finish")
    assert line.startswith("✗ 1 of 3 failed for good: word ")
    assert len(line) < 150
    assert line.endswith("…")


@given(
    counts=st.lists(st.integers(0, 10**9), min_size=4, max_size=4),
    event=st.sampled_from([*Event, None]),
    state=st.sampled_from(STATES),
    description=st.text(max_size=300),
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_any_batch_has_a_short_line_whose_sign_is_its_verdict(
    counts: list[int], event: Event | None, state: str, description: str, flags: tuple[bool, bool]
) -> None:
    succeeded, failing, dead, _waiting = counts
    cancelled, cut_short = flags
    batch = status(
        sum(counts),
        succeeded=succeeded,
        failing=failing,
        dead=dead,
        state=state,
        description=description,
        cancelled_at=NOW if cancelled else None,
        cut_short=cut_short,
    )
    line = headline(batch, event, now=NOW)
    assert line.startswith(f"{judge(batch, event).sign} ")
    assert len(line) < 260
    assert len(line.splitlines()) == 1
    if judge(batch, event) is Verdict.SUCCEEDED:
        assert not failing and not dead


def test_a_notifications_subject_is_this_line() -> None:
    told = Notification(id="x", event="deadline", status=status(**HALF), limit=timedelta(hours=1))
    assert told.subject == "⚠ Not finished within 1 h, 6,225 of 12,480 succeeded: Nightly import"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0, "0 s"),
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

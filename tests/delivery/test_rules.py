from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from celery_batches_notify.delivery.rules import check_rules, rules_hold
from celery_batches_notify.errors import InvalidCallback
from celery_batches_notify.model import BatchStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATUS = BatchStatus(
    bid="0123456789abcdef",
    description="",
    tags=(),
    state="complete",
    total=100,
    pending=10,
    succeeded=90,
    failures=10,
    dead=4,
    created_at=NOW - timedelta(seconds=60),
)


@pytest.mark.parametrize(
    ("rules", "holds"),
    [
        ({}, True),
        ({"failures": 10}, True),
        ({"failures": 11}, False),
        ({"failure_share": 0.1}, True),
        ({"failure_share": 0.11}, False),
        ({"dead": 4}, True),
        ({"dead": 5}, False),
        ({"total": 100}, True),
        ({"total": 101}, False),
        ({"slower_than": 59}, True),
        ({"slower_than": 60}, False),
        ({"faster_than": 61}, True),
        ({"faster_than": 60}, False),
        ({"failures": 1, "slower_than": 600}, False),
    ],
    ids=str,
)
def test_all_rules_must_hold(rules: dict[str, float], holds: bool) -> None:
    assert rules_hold(rules, STATUS, NOW) is holds


def test_a_duration_is_a_number_of_seconds_or_a_timedelta() -> None:
    given = {"slower_than": timedelta(minutes=10), "faster_than": timedelta(days=1), "total": 100}
    assert check_rules(given) == {"slower_than": 600, "faster_than": 86_400, "total": 100}
    assert check_rules({"slower_than": 600}) == {"slower_than": 600}


def test_an_empty_batch_has_no_share_of_failures() -> None:
    empty = BatchStatus(
        bid="0123456789abcdef",
        description="",
        tags=(),
        state="success",
        total=0,
        pending=0,
        succeeded=0,
        failures=0,
        dead=0,
        created_at=NOW,
        finish_at=NOW,
    )
    assert not rules_hold({"failure_share": 0.01}, empty, NOW + timedelta(days=1))
    assert not rules_hold({"slower_than": 1}, empty, NOW + timedelta(days=1))


@pytest.mark.parametrize(
    ("rules", "fix"),
    [
        ({"errors": 1}, "unknown rule 'errors'; the rules are failures, failure_share"),
        ({"failures": "1"}, "must be a number >= 0, got '1'"),
        ({"failures": -1}, "must be a number >= 0, got -1"),
        ({"failures": True}, "must be a number"),
        ({"slower_than": float("inf")}, "must be seconds >= 0 or a timedelta, got"),
        ({"slower_than": float("nan")}, "must be seconds"),
        (
            {"slower_than": timedelta(seconds=-1)},
            "must be seconds >= 0 or a timedelta, got datetime.timedelta",
        ),
        ({"faster_than": "1 h"}, "must be seconds >= 0 or a timedelta, got"),
        ({"total": timedelta(1)}, "must be a number >= 0, got"),
        ({"failure_share": 5}, "from 0 to 1"),
        ({}, "must be a mapping of rules"),
        (["failures"], "must be a mapping of rules"),
    ],
    ids=str,
)
def test_a_wrong_rule_is_refused(rules: object, fix: str) -> None:
    with pytest.raises(InvalidCallback, match=fix):
        check_rules(rules)

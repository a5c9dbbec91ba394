from __future__ import annotations

from types import SimpleNamespace

import pytest

from celery_batches_notify.worker.report_budget import limits_of, patience_within


@pytest.mark.parametrize(
    ("limits", "elapsed", "seconds"),
    [
        ((None, None), 100, 15),
        ((60, None), 10, 15),
        ((30, None), 10, 10),
        ((60, 20), 10, 5),
        ((20, 10), 12, 4),  # the soft limit was spent on the task; the hard one lies ahead
        ((20, 10), 20, 0),
        ((0, 0), 5, 15),
    ],
)
def test_reporting_takes_at_most_half_of_what_the_next_limit_leaves(
    limits: tuple[float | None, float | None], elapsed: float, seconds: float
) -> None:
    assert patience_within(limits, elapsed, at_most=15) == seconds


@pytest.mark.parametrize(
    ("message", "task", "worker", "limits"),
    [
        ((5, 4), (3, 2), (1, 1), (5, 4)),
        ((None, 4), (3, 2), (1, 1), (3, 4)),
        (None, (None, None), (7, 6), (7, 6)),
        (None, (None, None), (None, None), (None, None)),
    ],
)
def test_the_messages_limits_win_then_the_tasks_then_the_workers(
    message: object, task: tuple, worker: tuple, limits: tuple
) -> None:
    request = SimpleNamespace(timelimit=message)
    running = SimpleNamespace(time_limit=task[0], soft_time_limit=task[1])
    assert limits_of(running, request, worker) == limits

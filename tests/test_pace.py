"""How fast a batch moves, and the time left: a range that holds, or words."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celery_batches_notify.model import BatchStatus
from celery_batches_notify.pace import Pace, measure_pace

STARTED = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
WORKERS, MARKS, RUNS = 8, 64, 20


def after(seconds: float) -> datetime:
    return STARTED + timedelta(seconds=seconds)


def status(total: int, ended: int, **changes: Any) -> BatchStatus:
    values: dict[str, Any] = {
        "bid": "kJ3fXoTq0Zy1nN8vWc5uRg",
        "description": "",
        "tags": (),
        "state": "running",
        "total": total,
        "pending": total - ended,
        "succeeded": ended,
        "failures": 0,
        "dead": 0,
        "created_at": STARTED,
        "sealed_at": STARTED,
    }
    return BatchStatus(**(values | changes))


def line(*points: tuple[float, int]) -> list[tuple[datetime, int]]:
    return [(after(seconds), ended) for seconds, ended in points]


@pytest.mark.parametrize(
    ("changes", "now", "words"),
    [
        ({"sealed_at": None}, 100, "still growing"),
        ({"moved_at": after(58)}, 100, "no movement for 42 s"),
        ({"moved_at": after(80)}, 100, "5/s · about 3 min at this pace (2–8 min)"),
        ({"finish_at": after(99)}, 100, ""),
        ({"cancelled_at": after(99)}, 100, ""),
    ],
    ids=["open", "still", "moving", "finished", "cancelled"],
)
def test_words_for_what_a_number_would_not_fit(changes: dict[str, Any], now: float, words: str) -> None:
    pace = measure_pace(status(1_500, 500, **changes), line((0, 0)), after(now))
    assert pace.words == words.replace("5/s", "300/min")


@pytest.mark.parametrize(
    ("total", "ended", "failing", "words"),
    [
        (1_000, 0, 0, ""),
        (1_000, 994, 6, "6 members wait for their retry"),
        (10, 9, 1, "1 member waits for its retry"),
        (1_000, 988, 0, "the last 12"),
        (10_000, 9_910, 0, "the last 90"),
        (10, 9, 0, "the last one"),
    ],
)
def test_the_tail_gets_words(total: int, ended: int, failing: int, words: str) -> None:
    pace = measure_pace(status(total, ended, failures=failing), line((0, 0)), after(100))
    assert pace.time_left == words
    assert pace.seconds is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ((40, 20, 120), "about 40 s at this pace (20 s–2 min)"),
        ((480, 300, 1_200), "about 8 min at this pace (5–20 min)"),
        ((7_200, 4_000, 18_000), "about 2 h at this pace (67 min–5 h)"),
        ((3 * 86_400, 2 * 86_400, 9 * 86_400), "about 3 d at this pace (2–9 d)"),
        ((3, 1, 8), "about 10 s at this pace"),
    ],
)
def test_a_time_has_one_unit(seconds: tuple[float, float, float], words: str) -> None:
    about, low, high = seconds
    assert Pace(left=9, per_second=1, seconds=about, seconds_low=low, seconds_high=high).time_left == words


@pytest.mark.parametrize(
    ("per_second", "words"), [(412 / 60, "412/min"), (250, "250/s"), (0.01, "36/h"), (2.5 / 60, "2.5/min")]
)
def test_a_pace_has_the_unit_that_fits(per_second: float, words: str) -> None:
    assert Pace(left=9, per_second=per_second).rate == words


def test_json_says_why_there_is_no_number() -> None:
    pace = measure_pace(status(1_000, 988), line((0, 0)), after(100))
    assert pace.as_dict() == {
        "pace_per_second": 9.88,
        "left": 12,
        "seconds_low": None,
        "seconds_high": None,
        "why": "the last 12",
    }


# -- the range holds ------------------------------------------------------------------------------

Cost = Callable[[random.Random, float], float]


def steady(rng: random.Random, _: float) -> float:
    return rng.lognormvariate(0, 0.7)


def speeding_up(rng: random.Random, done: float) -> float:
    return rng.lognormvariate(0, 0.7) * (1.6 - done)


def slowing(rng: random.Random, done: float) -> float:
    return rng.lognormvariate(0, 0.7) * (0.6 + done)


def dearer(rng: random.Random, done: float) -> float:
    return rng.lognormvariate(0, 0.7) * (4 if done > 0.5 else 1)


def retry_of(n: int) -> float:
    """The longest time until a retry: a tenth of what the batch takes without."""
    return 0.1 * 1.28 * n / WORKERS


def run(cost: Cost, n: int, seed: int, *, retries: bool = False) -> list[tuple[float, bool]]:
    """Simulate a batch on some workers; return when each member ended, and whether it had failed before."""
    rng = random.Random(seed)
    free = [0.0] * WORKERS
    ends = []
    for k in range(n):
        began = heapq.heappop(free)
        end = began + cost(rng, k / n)
        heapq.heappush(free, end)
        again = retries and rng.random() < 0.05
        ends.append((end + rng.uniform(0.5, 1) * retry_of(n) if again else end, again))
    return sorted(ends)


def asked_at(ends: list[tuple[float, bool]], share: float) -> Pace:
    """Ask for the pace once this share has ended; what still retries then has failed, and waits."""
    k = max(1, int(len(ends) * share))
    now = ends[k - 1][0]
    marks = [(ends[at][0], at + 1) for m in range(MARKS) if (at := m * len(ends) // MARKS) < k]
    failing = sum(again for end, again in ends[k:] if end - retry_of(len(ends)) < now)
    waiting = len(ends) - k - failing
    failing = failing if waiting else len(ends) - k
    state = status(len(ends), k, failures=failing, moved_at=after(now))
    return measure_pace(state, line((ends[0][0], 1), *marks[1:]), after(now))


SHAPES = {
    "steady": (steady, False),
    "speeding up": (speeding_up, False),
    "slowing": (slowing, False),
    "retries": (steady, True),
    "dearer": (dearer, False),
}


def test_the_range_holds_in_nine_of_ten_batches() -> None:
    good = cells = 0
    for cost, retries in SHAPES.values():
        for n in (200, 2_000):
            runs = [run(cost, n, seed, retries=retries) for seed in range(RUNS)]
            for share in (0.10, 0.25, 0.50, 0.75, 0.90):
                cells += 1
                held = []
                for ends in runs:
                    pace = asked_at(ends, share)
                    truth = ends[-1][0] - ends[max(1, int(n * share)) - 1][0]
                    low, high = pace.seconds_low, pace.seconds_high
                    held.append(low is None or high is None or low <= truth <= high)
                good += sum(held) >= 0.9 * RUNS
    assert cells == 50
    assert good >= 40


def test_where_only_retries_are_left_no_number_is_said() -> None:
    for seed in range(RUNS):
        ends = run(steady, 200, seed, retries=True)
        late = sum(again for _, again in ends[190:])
        pace = asked_at(ends, 0.96)
        assert pace.seconds is None, late

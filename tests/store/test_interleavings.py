"""All orders in which two members' reports and the seal can reach the store, each run for real.

Two reporters report one member each, in order, some of it twice; a producer seals somewhere in between. Where
members are concerned, one reporter's reports may also come in any order: late, or once more at the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from celery_batches_notify.membership import State
from tests.store.both import Both
from tests.store.compared import Surroundings, new_bid
from tests.store.model_of_members import Report

IDS = ("00000000-0000-4000-8000-000000000000", "not a UUID")
SEAL = "seal"
# What may be said of one member: each is (state, attempt).
RUNS = {
    "succeeds": ((State.SUCCEEDED, 1),),
    "succeeds, and that twice": ((State.SUCCEEDED, 1), (State.SUCCEEDED, 1)),
    "fails, then succeeds": ((State.FAILING, 1), (State.SUCCEEDED, 2)),
    "fails, that twice, then succeeds": ((State.FAILING, 1), (State.FAILING, 1), (State.SUCCEEDED, 2)),
    "fails, then dies": ((State.FAILING, 1), (State.DEAD, 2)),
    "dies, and that twice": ((State.DEAD, 1), (State.DEAD, 1)),
    "dies of its failure, then succeeds after all": (
        (State.FAILING, 1),
        (State.DEAD, 1),
        (State.SUCCEEDED, 2),
    ),
}

Step = str | Report


def said_of(index: int, run: str) -> list[Step]:
    return [Report(index=index, task_id=IDS[index], state=s, attempt=n) for s, n in RUNS[run]]


def merged(one: list[Step], two: list[Step]) -> Iterator[list[Step]]:
    """All ways to put two sequences together that keep the order of each."""
    for places in itertools.combinations(range(len(one) + len(two)), len(one)):
        first, second = iter(one), iter(two)
        yield [next(first) if place in places else next(second) for place in range(len(one) + len(two))]


def run(around: Surroundings, steps: list[Step]) -> Both:
    """Run one order on the store and on the model; all of both is compared after each step."""
    both = Both(around)
    bid = both.open(new_bid())
    both.enrol(bid, 0, IDS, "owner")
    for step in steps:
        if isinstance(step, Report):
            both.report(bid, step)
        else:
            both.seal(bid)
        both.compare()
    both.compare_readings()
    around.client.unlink(*both.store.keys.of_batch(bid))
    return both


@pytest.mark.parametrize(("one", "two"), list(itertools.combinations_with_replacement(RUNS, 2)))
def test_two_reporters_and_the_seal_leave_the_same_in_every_order(
    around: Surroundings, one: str, two: str
) -> None:
    left = set()
    for reports in merged(said_of(0, one), said_of(1, two)):
        for place in range(len(reports) + 1):
            both = run(around, [*reports[:place], SEAL, *reports[place:]])
            (batch,) = both.world.batches.values()
            left.add((batch.state, *(m.state for m in batch.members)))
    states = [State.SUCCEEDED if "succeeds" in run_ else State.DEAD for run_ in (one, two)]
    assert left == {("dead" if State.DEAD in states else "success", *states)}


@pytest.mark.parametrize("run_", RUNS)
def test_one_members_reports_leave_the_same_however_late_they_are(around: Surroundings, run_: str) -> None:
    others = said_of(1, "succeeds")
    left = set()
    for steps in set(itertools.permutations([*said_of(0, run_), *others, SEAL])):
        both = run(around, list(steps))
        (batch,) = both.world.batches.values()
        left.add((tuple(m.state for m in batch.members), "success" in batch.fired, "complete" in batch.fired))
    success = "succeeds" in run_
    assert left == {((State.SUCCEEDED if success else State.DEAD, State.SUCCEEDED), success, True)}

"""Dying at a named place: wraps methods from outside, so that production code knows nothing of it.

`BATCHES_TEST_FAILPOINTS` names points, separated by commas, each with when it strikes:

    P3              at its first hit
    P4#50           at its 50th hit in this process
    W2:0.1          at each hit with this probability
    W2:0.1@7        the same, drawn from this seed: its forks in their order draw the same again

A point that strikes kills its process with SIGKILL, but for W4, which loses a reply. Where
`BATCHES_TEST_FAILPOINTS_LOG` names a file, each strike is a line there before: seconds, pid, point.
The test apps call `arm()`. A worker's points are counted in the process where they are hit: a pool's child,
or the main one.
"""

from __future__ import annotations

import importlib
import os
import random
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, NoReturn

from celery_batches_notify.errors import StoreUnavailable

POINTS_VARIABLE, LOG_VARIABLE = "BATCHES_TEST_FAILPOINTS", "BATCHES_TEST_FAILPOINTS_LOG"
_SPEC = re.compile(r"(?P<name>[A-Z]\d[a-z-]*)(#(?P<nth>[1-9]\d*)|:(?P<share>[01]?\.?\d+)(@(?P<seed>\w+))?)?")

Call = Mapping[str, Any]


def _any(_: Call) -> bool:
    return True


def die() -> NoReturn:
    """End this process as the kernel's OOM killer does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process goes on")


def lose_reply() -> NoReturn:
    """Fail as a store does whose answer did not come."""
    raise StoreUnavailable("failpoint: the reply was lost")


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where something strikes: before or after those calls of a method that `only` picks."""

    target: str
    when: Literal["before", "after"]
    only: Callable[[Call], bool] = _any
    strike: Callable[[], NoReturn] = die


def _is_member(call: Call) -> bool:
    mark = (call["kwargs"].get("headers") or {}).get("batches")
    return isinstance(mark, dict) and "delivery" not in mark


def _is_late_member(call: Call) -> bool:
    request = call["args"][0]
    return bool(request.task.acks_late) and _is_member({"kwargs": {"headers": request.request_dict}})


def _is_published(call: Call) -> bool:
    return bool(call["args"][3] == "published")


def _is_abandoned(call: Call) -> bool:
    return bool(call["answer"].word == "abandoned")


def _is_counted(call: Call) -> bool:
    return bool(call["answer"].word == "counted")


STORE = "celery_batches_notify.store.store:Store"
REPORTER = "celery_batches_notify.worker.reporter:Reporter"

POINTS: dict[str, Point] = {
    # The producer: the batch is stored; a chunk is enrolled; nothing of it is published; one message has left
    # (`P4#50`: 50 have); a chunk has left and is not confirmed; all have left and nothing is sealed, nor the
    # last chunk confirmed; it is, and nothing that this made due has left.
    "P1": Point(target=f"{STORE}.open_batch", when="after"),
    "P2": Point(target=f"{STORE}.enrol_members", when="after"),
    "P3": Point(target="celery_batches_notify.producer.enrolment:Enrolment._publish", when="before"),
    "P4": Point(target="kombu.messaging:Producer.publish", when="after", only=_is_member),
    "P5-unconfirmed": Point(target=f"{STORE}.confirm_members", when="before"),
    "P5": Point(target=f"{STORE}.seal_batch", when="before"),
    "P6": Point(target=f"{STORE}.seal_batch", when="after"),
    # The worker: nothing is reported; the script has run; the report is over, and the pool's child dies, or
    # the main process before a late acknowledgement; the script has run, and its reply is lost.
    "W1": Point(target=f"{REPORTER}.report", when="before"),
    "W2": Point(target=f"{STORE}.record_outcome", when="after", only=_is_counted),
    "W3": Point(target=f"{REPORTER}.report", when="after"),
    "W3-main": Point(target="celery.worker.request:Request.acknowledge", when="before", only=_is_late_member),
    "W4": Point(target=f"{STORE}.record_outcome", when="after", strike=lose_reply),
    # The spool: many successes have been counted in one call, and their lines are still on the disk.
    "S1": Point(target=f"{STORE}.record_successes", when="after"),
    # The relay: a sweeper has claimed deliveries; one is at the broker and not settled; it is settled.
    "R1": Point(target=f"{STORE}.claim_deliveries", when="after", only=lambda call: bool(call["answer"].due)),
    "R2": Point(target="celery_batches_notify.delivery.publisher:Publisher._publish", when="after"),
    "R3": Point(target=f"{STORE}.settle_delivery", when="after", only=_is_published),
    # The sweeper has sealed a batch whose producer died; it has written a chunk off and not noted that.
    "A1": Point(target=f"{STORE}.abandon_batch", when="after", only=_is_abandoned),
    "A2": Point(target=f"{STORE}.write_off_chunk", when="before"),
    # A notification: not sent yet; the receiver has it, and nothing is recorded.
    "N1": Point(target="celery_batches_notify.delivery.attempt:Attempts._send", when="before"),
    "N2": Point(target="celery_batches_notify.delivery.attempt:Attempts._send", when="after"),
}


class Trigger:
    """When a point strikes: at its nth hit, or at each with a probability."""

    def __init__(self, name: str, nth: int | None, share: float | None, seed: str | None) -> None:
        self.name = name
        self._nth, self._share, self._seed = nth, share, seed
        self._hits = 0
        # A pool's children are copies of one process: each draws for itself, by its place among the forks.
        self._lineage: tuple[int, ...] = ()
        self._forks = 0
        self._seed_draws()
        os.register_at_fork(after_in_parent=self._count_fork, after_in_child=self._begin_child)

    def strikes(self) -> bool:
        """Count a hit; say whether this is the one."""
        self._hits += 1
        if self._share is not None:
            return self._random.random() < self._share
        return self._hits == (self._nth or 1)

    def _seed_draws(self) -> None:
        self._random = random.Random(f"{self._seed}{self.name}{self._lineage}" if self._seed else None)

    def _count_fork(self) -> None:
        self._forks += 1

    def _begin_child(self) -> None:
        self._lineage, self._forks = (*self._lineage, self._forks), 0
        self._seed_draws()


def parse(spec: str) -> Trigger:
    """Read one point's name and when it strikes. A wrong one is an error: it would test nothing."""
    match = _SPEC.fullmatch(spec.strip())
    if match is None or match["name"] not in POINTS:
        raise ValueError(f"{spec!r} is no failpoint: give one of {', '.join(POINTS)}, with #n or :p@seed")
    share = float(match["share"]) if match["share"] else None
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"{spec!r}: a probability is above 0 and at most 1")
    return Trigger(match["name"], int(match["nth"]) if match["nth"] else None, share, match["seed"])


def arm(specs: str | None = None) -> list[Trigger]:
    """Wrap what the points are at; of the environment's, if none are given."""
    specs = os.environ.get(POINTS_VARIABLE, "") if specs is None else specs
    triggers = [parse(spec) for spec in specs.split(",") if spec.strip()]
    for trigger in triggers:
        owner, name = find(POINTS[trigger.name].target)
        setattr(owner, name, wrap(POINTS[trigger.name], trigger))
    return triggers


def find(target: str) -> tuple[Any, str]:
    """The class that a point is at, and its method's name."""
    module, _, path = target.partition(":")
    owner, _, name = path.partition(".")
    return getattr(importlib.import_module(module), owner), name


def wrap(point: Point, trigger: Trigger) -> Callable[..., Any]:
    """The method that a point is at, with what may strike around it."""
    owner, name = find(point.target)
    method = getattr(owner, name)

    def hit(call: Call) -> None:
        if point.only(call) and trigger.strikes():
            _log(trigger.name)
            point.strike()

    @wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if point.when == "before":
            hit({"args": args, "kwargs": kwargs})
        answer = method(*args, **kwargs)
        if point.when == "after":
            hit({"args": args, "kwargs": kwargs, "answer": answer})
        return answer

    return wrapped


def _log(name: str) -> None:
    if path := os.environ.get(LOG_VARIABLE):
        with open(path, "a", encoding="ascii") as log:
            log.write(f"{time.time():.3f} {os.getpid()} {name}\n")

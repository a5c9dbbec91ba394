"""Real threads share one `Batch` object: each call is a member once, or its caller gets an error."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from celery_batches_notify import Batch, BatchSealed, NoSuchBatch, WouldDeadlock
from tests.use.use_items import CHUNK
from tests.use.use_watch import Around

THREADS, DEEDS, ROUNDS = 5, 4, 20


@dataclass(frozen=True)
class Deed:
    """One thread's step, its calls and its error."""

    what: str
    calls: list[str]
    error: Exception | None

    def made(self, members: set[str], *, flushes: bool) -> None:
        """Return the calls that are members: all, or those that the error leaves."""
        mine = [call for call in self.calls if call in members]
        if self.error is None:
            assert mine == self.calls, f"{self.what} lost calls, and said nothing"
        elif self.what == "map":
            assert mine == self.calls[: len(mine)] and len(mine) % CHUNK == 0, "a part of a chunk was sent"
        elif not (self.what == "block" and flushes):
            assert not mine, f"{self.what} is all or none"


@pytest.fixture
def _impatient() -> Iterator[None]:
    """Let threads take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("autoflush", [None, 3], ids=["plain", "flushing"])
@pytest.mark.parametrize("way", ["kept open", "sealed by the first", "in its block", "sealed beside"])
def test_what_threads_do_at_once_with_one_object_is_exact(
    surroundings: Around, way: str, autoflush: int | None
) -> None:
    numbers = count()
    with ThreadPoolExecutor(THREADS) as pool:
        for round_ in range(ROUNDS):
            surroundings.forget()
            keep_open = way in ("kept open", "sealed beside")
            batch = Batch(app=surroundings.apps["a"], keep_open=keep_open, autoflush=autoflush)
            if way == "in its block":
                batch.__enter__()
            start = threading.Barrier(THREADS)
            futures = [
                pool.submit(work, batch, way, random.Random(f"{round_} {n}"), start, numbers)
                for n in range(THREADS)
            ]
            deeds = [deed for future in futures for deed in future.result(60)]
            if way == "in its block":
                batch.__exit__(None, None, None)
            elif keep_open:
                batch.seal()
            check(surroundings, batch, deeds, flushes=bool(autoflush))


def work(
    batch: Batch, way: str, chance: random.Random, start: threading.Barrier, numbers: Iterator[int]
) -> list[Deed]:
    start.wait(60)
    whats = ["add", "map", *([] if way == "in its block" else ["block"])]
    deeds = [do(batch, chance.choice(whats), chance.randint(0, 7), numbers) for _ in range(DEEDS)]
    if way == "sealed beside" and chance.random() < 0.5:
        deeds.append(do(batch, "seal", 0, numbers))
    return deeds


def do(batch: Batch, what: str, size: int, numbers: Iterator[int]) -> Deed:
    calls = [f"{next(numbers):08x}-0000-4000-8000-000000000000" for _ in range(size)]
    try:
        deal(batch, what, calls)
        batch.status()
    except NoSuchBatch:
        return Deed(what, calls, None)  # nothing of it has left yet
    except (BatchSealed, WouldDeadlock) as exc:
        return Deed(what, calls, exc)
    return Deed(what, calls, None)


def deal(batch: Batch, what: str, calls: list[str]) -> None:
    task: Any = batch.app.tasks["work"]
    if what == "add":
        batch.add(*(task.s().set(task_id=call) for call in calls))
    elif what == "map":
        assert batch.map(task, iter(calls)) == len(calls)
    elif what == "block":
        with batch:
            for call in calls:
                task.delay(call)
    else:
        batch.seal()


def check(around: Around, batch: Batch, deeds: list[Deed], *, flushes: bool) -> None:
    status = batch.status()
    members = [m for chunk in around.store.walk_members(batch.bid, status.total) for m in chunk]
    assert status.sealed_at
    assert len({member.id for member in members}) == len(members) == status.total
    sent = Counter((task_id, mark["index"]) for task_id, mark in around.waiting("a"))
    assert sent == Counter((member.id, member.index) for member in members)
    assert list(around.store.walk_unconfirmed(batch.bid)) == []
    for deed in deeds:
        deed.made({member.id for member in members}, flushes=flushes)
    assert status.total == sum(call in {m.id for m in members} for deed in deeds for call in deed.calls)

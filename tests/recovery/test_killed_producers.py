"""T3: producers that are really killed, at every step of every way to fill a batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.errors import NoSuchBatch
from celery_batches_notify.membership import State
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.store.store import Store
from tests.support.servers import ROOT, running_worker, wait_until

KINDS = ("with", "add", "map", "autoflush", "nested")
POINTS = ("P1", "P2", "P2#2", "P3", "P3#2", "P4", "P4#7", "P5-unconfirmed", "P5-unconfirmed#2", "P5", "P6")
RUNS = int(os.environ.get("BATCHES_TEST_PRODUCER_RUNS", "2"))
CALLS = 12
SETTINGS = {
    "BATCHES_TEST_ABANDON_AFTER": "8",  # more than a busy machine takes from one step to the next
    "BATCHES_TEST_LINGER": "3600",  # and what has succeeded is still there when it is looked at
}
END_SECONDS = 180


@pytest.fixture
def worker(redis: Redis, server_url: str) -> Iterator[None]:
    with running_worker(server_url, "threads", **SETTINGS):
        yield


def run_producers(url: str) -> list[dict[str, object]]:
    """Let one die at each point, in each kind, some times; return their jobs, each with what became of it."""
    jobs = [{"kind": k, "points": p, "calls": CALLS} for _ in range(RUNS) for k in KINDS for p in POINTS]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.producers"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "BATCHES_TEST_URL": url, **SETTINGS},
        input="\n".join(map(json.dumps, jobs)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=END_SECONDS,
    )
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    return [job | end for job, end in zip(jobs, ends, strict=True)]


def statuses(app: Celery, jobs: list[dict[str, object]]) -> dict[str, BatchStatus]:
    """Those of all batches that were stored."""
    found = {}
    for bid in [bid for job in jobs for bid in job["bids"]]:
        try:
            found[bid] = Batch.get(bid, app=app).status()
        except NoSuchBatch:
            continue
    return found


class Ledger:
    """Which tasks ran, and which callbacks, as they wrote down themselves."""

    def __init__(self, redis: Redis) -> None:
        notes = [note.decode().split() for note in redis.lrange("notes", 0, -1)]
        self.ran = {words[1] for words in notes if words[0] == "ran"}
        self.told = {words[1] for words in notes if words[0] == "callback"}


@pytest.mark.timeout(4 * END_SECONDS)
def test_wherever_its_producer_was_killed_a_batch_ends_with_exact_counts(
    app: Celery, redis: Redis, server_url: str, worker: None
) -> None:
    jobs = run_producers(server_url)
    assert Counter(job["signal"] for job in jobs) == {signal.SIGKILL: len(jobs)}
    for bid, status in statuses(app, jobs).items():
        assert status.sealed_at or not (status.complete_at or status.death_at), f"{bid} fired before its seal"
    with suppress(pytest.fail.Exception):  # below it is told which one does not end
        wait_until(lambda: all(s.finish_at for s in statuses(app, jobs).values()), seconds=END_SECONDS)
    assert [status for status in statuses(app, jobs).values() if not status.finish_at] == []
    ended = statuses(app, jobs)
    with suppress(pytest.fail.Exception):  # below it is told which one is missing, and how it stands
        wait_until(lambda: Ledger(redis).told == ended.keys(), seconds=END_SECONDS)
    assert {s.bid: s.callbacks for s in statuses(app, jobs).values() if s.bid not in Ledger(redis).told} == {}
    assert len(ended) >= len(jobs)
    ledger, store = Ledger(redis), app._batches_extension.engine.store
    for status in ended.values():
        check(status, ledger, store, ended)
    assert all(redis.pttl(key) != -1 for key in redis.scan_iter("batches*"))


def check(status: BatchStatus, ledger: Ledger, store: Store, ended: dict[str, BatchStatus]) -> None:
    """Hold one batch against what ran: it succeeded where all of it did, and all of it had been there."""
    members = store.read_members(status.bid, 0, status.total) if status.total else []
    for member in members:
        child = ended.get(member.id)
        did = bool(child and child.success_at) if member.is_batch else member.id in ledger.ran
        assert member.state is (State.SUCCEEDED if did else State.DEAD), f"{member} of {status}"
    assert status.succeeded + status.dead == status.total == len(members)
    assert status.sealed_at <= status.complete_at <= status.finish_at
    succeeds = status.dead == 0 and not status.cut_short
    assert status.state == ("success" if succeeds else "dead")
    assert bool(status.success_at) == succeeds == (not status.death_at)
    never = [f for f in status.failure_info if f.error_class == "NeverPublished"]
    assert len(never) == sum(m.state is State.DEAD and m.id not in ended for m in members)

"""Workers and producers beside another package, and what became of their batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.model import BatchStatus
from tests.projects.neighbour_tasks import declare_special_tasks, declare_tasks, lock_settings
from tests.support.apps import open_app
from tests.support.servers import ROOT, need, running_worker, wait_until

# What the batches of `neighbour_producer.py` count: total, succeeded, dead.
COUNTS = {"block": (6, 5, 1), "add": (3, 3, 0), "map": (5, 5, 0), "again": (1, 1, 0), "other": (3, 3, 0)}
CALLBACKS = [["add", "success"], ["again", "death"], ["again", "success"], ["block", "complete"]]
CALLBACKS += [["block", "finish"], ["map", "success"], ["other", "success"]]
RUNS = {"ok": 15, "fail": 1, "retry_once": 2, "fail_once": 2, "callback": 7}


@dataclass
class Beside:
    """A queue whose worker runs beside a neighbour."""

    url: str
    queue: str
    environment: dict[str, str]
    traces: list[str | None] = field(default_factory=list)
    bids: dict[str, str] = field(default_factory=dict)

    def kept(self, kind: str) -> list[Any]:
        """Return what the tasks, or the neighbour, have written down."""
        with Redis.from_url(self.url) as client:
            return [json.loads(each) for each in client.lrange(f"{self.queue}:{kind}", 0, -1)]

    def produce(self) -> None:
        """Make the batches, and wait until they and their callbacks are over."""
        output = self.run("-m", "tests.projects.neighbour_producer")
        made = json.loads(output)
        self.traces, self.bids = made["traces"], made["bids"]
        wait_until(
            lambda: len(self.kept("callbacks")) >= len(CALLBACKS) and all(map(is_over, self.statuses())),
            seconds=60,
            what="all callbacks",
        )

    def run(self, *arguments: str) -> str:
        """Run Python beside the neighbour, and return what it prints."""
        command, env = [sys.executable, *arguments], self.process_environment()
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def traces_of(self, *, of_callbacks: bool) -> dict[str, set[str]]:
        """Return the traces that members, or callbacks, of each batch ran in."""
        runs = [run for run in self.runs() if (run["task"] == "callback") is of_callbacks]
        return {
            description: {run["trace"] for run in runs if run["bid"] == bid}
            for description, bid in self.bids.items()
        }

    @contextmanager
    def app(self) -> Iterator[Celery]:
        """Make an app here that knows the worker's tasks."""
        conf = {"task_default_queue": self.queue, "redbeat_redis_url": self.url, "redbeat_lock_key": None}
        conf |= {"redbeat_key_prefix": f"redbeat:{self.queue}:", **lock_settings(self.url)}
        with open_app(self.url, **conf) as app:
            declare_tasks(app)
            if self.environment["BATCHES_TEST_NEIGHBOUR"] == "together":
                declare_special_tasks(app)
            yield app

    def process_environment(self) -> dict[str, str]:
        """Return the environment of a process beside the neighbour."""
        return {**os.environ, **self.environment}

    def statuses(self) -> list[BatchStatus]:
        with self.app() as app:
            return [Batch.get(bid, app=app).status() for bid in self.bids.values()]

    def check_counts(self) -> None:
        """Assert that every member and every callback ran as often as it must, and was counted."""
        statuses = self.statuses()
        assert {s.description: (s.total, s.succeeded, s.dead) for s in statuses} == COUNTS
        assert {each.state for s in statuses for each in s.callbacks} == {"delivered"}
        assert sorted(each for each in self.kept("callbacks") if each[0] in self.bids) == sorted(CALLBACKS)
        assert Counter(run["task"] for run in self.runs()) == RUNS

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs of members and callbacks of these batches."""
        return [run for run in self.kept("runs") if run["bid"] in self.bids.values()]


def is_over(status: BatchStatus) -> bool:
    """Whether a batch has finished, and all that it called is delivered."""
    fired = [each for each in status.callbacks if each.state != "waiting"]
    return status.finish_at is not None and all(each.state == "delivered" for each in fired)


@contextmanager
def beside(
    url: str, neighbour: str, *options: str, needs: str, pool: str = "prefork", **environment: str
) -> Iterator[Beside]:
    """Run a worker beside a neighbour, with a queue of its own."""
    need_all(needs)
    queue = f"beside-{uuid4().hex}"
    env = {"BATCHES_TEST_QUEUE": queue, "BATCHES_TEST_NEIGHBOUR": neighbour, **environment}
    every = {"BATCHES_TEST_URL": url, "PYTHONPATH": str(ROOT), **env}
    with (
        pytest.MonkeyPatch.context() as patch,
        running_worker(url, pool, "-Q", queue, *options, app="neighbours", **env),
    ):
        patch.setenv("BATCHES_TEST_QUEUE", queue)
        yield Beside(url, queue, every)


def need_all(packages: str) -> None:
    """Skip a test that lacks one of these packages; where all are required, fail."""
    for package in packages.split():
        need(package, find_spec(package.partition(".")[0]) and find_spec(package))


def migrate(packages: str, environment: dict[str, str]) -> None:
    """Make the tables of a Django project."""
    need_all(packages)
    command = [sys.executable, "-m", "django", "migrate", "--verbosity=0"]
    subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, check=True, timeout=100
    )

"""What other libraries cost on the same server: sending a task that does nothing, and running it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Any

from redis import Redis

from celery_batches_notify.testing.server import embedded_server, run_until_we_end
from tests.bench.celery_ways import OVER_KEY
from tests.bench.child import ROOT, Child, child
from tests.bench.costs import Cost, Row, by_turns, cost_row, speed_row
from tests.bench.processes import cpu_when_quiet, send_all
from tests.support.servers import running_worker

BIN = Path(sys.executable).parent
OVER_SECONDS = 60
BASE, TASK = "Celery `delay()`", "Celery, task"
Workers = AbstractContextManager[Popen[bytes]]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A library or a set-up of it, on a database of its own.

    Attributes:
        ways: How its child sends tasks, and the words for that.
        runs: Those that are also measured at its worker, and the words for what it runs.
    """

    ways: Mapping[str, str]
    runs: Mapping[str, str] = field(default_factory=dict)

    def open(self, url: str, store: str) -> AbstractContextManager[Child]:
        """Run its child."""
        raise NotImplementedError

    def work(self, url: str, store: str) -> Workers:
        """Run its worker with two processes."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class CeleryPeer(Peer):
    """Celery; `bare` is without the extension."""

    bare: bool = True
    results: bool = False

    def open(self, url: str, store: str) -> AbstractContextManager[Child]:
        """Run its child."""
        return child("celery_ways", url, store, json.dumps({"payload": "int", "results": self.results}))

    def work(self, url: str, store: str) -> Workers:
        """Run its worker."""
        switches = {"BENCH_BARE": "1" * self.bare, "BENCH_RESULTS": "1" * self.results}
        options = ("prefork", "-l", "WARNING")
        return running_worker(store, *options, app="bench_app", BENCH_BROKER=url, **switches)


@dataclass(frozen=True, kw_only=True)
class OtherPeer(Peer):
    """Another library."""

    module: str
    command: tuple[str, ...] = ()
    path: str = ""

    def open(self, url: str, store: str) -> AbstractContextManager[Child]:
        """Run its child."""
        return child(
            f"peers.{self.module}",
            path=self.path,
            BENCH_URL=url,
        )

    def work(self, url: str, store: str) -> Workers:
        """Run its worker."""
        program, *options = (part.format(url=url) for part in self.command)
        env = {**os.environ, "PYTHONPATH": str(ROOT), "BENCH_URL": url}
        return run_until_we_end([str(BIN / program), *options], env=env, cwd=ROOT)


PEERS = (
    CeleryPeer(ways={"delay": BASE, "group": "Celery `group`"}, runs={"delay": TASK}),
    CeleryPeer(
        ways={"chord": "Celery `chord`, which keeps results"},
        runs={"chord": "Celery, member of a chord"},
        results=True,
    ),
    CeleryPeer(
        ways={"block": "`with batch:`", "map": "`batch.map`"},
        runs={"map": "Celery, member of a batch"},
        bare=False,
    ),
    OtherPeer(
        module="dramatiq_app",
        ways={"loop": "dramatiq `send()`", "together": "dramatiq `group` with a callback"},
        runs={"loop": "dramatiq, task", "together": "dramatiq, member of a group"},
        command=("dramatiq", "tests.bench.peers.dramatiq_app", "-p", "2", "-t", "1"),
    ),
    OtherPeer(
        module="huey_app",
        ways={"loop": "huey", "together": "huey `chord`"},
        runs={"loop": "huey, task", "together": "huey, member of a chord"},
        command=("huey_consumer", "tests.bench.peers.huey_app.huey", "-w", "2", "-k", "process"),
    ),
    OtherPeer(
        module="rq_app",
        ways={
            "loop": "RQ `enqueue()`",
            "many": "RQ `enqueue_many()`",
            "together": "RQ `Group` and a job that depends on all",
        },
        runs={"loop": "RQ, task", "together": "RQ, member of a `Group`"},
        command=(
            "rq",
            "worker-pool",
            "bench",
            "-n2",
            "-w",
            "rq.worker.SimpleWorker",
            "-q",
            "-u",
            "{url}",
        ),
    ),
    OtherPeer(
        module="taskiq_app",
        ways={"loop": "taskiq `kiq()`"},
        runs={"loop": "taskiq, task"},
        command=("taskiq", "worker", "tests.bench.peers.taskiq_app:broker", "-w", "2"),
    ),
    OtherPeer(module="arq_app", ways={"loop": "arq `enqueue_job()`"}, path=os.environ.get("BENCH_ARQ", "")),
)


@dataclass(frozen=True)
class _Open:
    """A peer whose child runs."""

    peer: Peer
    child: Child
    url: str
    store: str

    @property
    def redis(self) -> Any:
        """Where its callback says that all are over."""
        url = self.store if isinstance(self.peer, CeleryPeer) else self.url
        return Redis.from_url(url, socket_timeout=2 * OVER_SECONDS)


def measure(rounds: int, calls: int, runs: int) -> Iterator[Row]:
    """Yield what it costs to send a task, and to run one; nothing runs if `runs` is 0."""
    with embedded_server() as url, ExitStack() as stack:
        opened = list(_open_all(stack, url))
        cases = {
            words: partial(one.child.run, way, calls)
            for one in opened
            for way, words in one.peer.ways.items()
        }
        costs = by_turns(cases, rounds)
        for words, each in costs.items():
            yield speed_row("Sending, beside Celery's `delay()`", words, each, costs[BASE])
        if runs:
            yield from _running(opened, rounds, runs)


def _running(opened: list[_Open], rounds: int, runs: int) -> Iterator[Row]:
    with ExitStack() as stack:
        cases = {}
        for one in opened:
            pid = _start(stack, one) if one.peer.runs else 0
            cases |= {words: partial(_run, one, way, runs, pid) for way, words in one.peer.runs.items()}
        costs = by_turns(cases, rounds)
    for words, each in costs.items():
        yield cost_row("Running on two processes, beside a task of Celery's", words, each, costs[TASK])


def _open_all(stack: ExitStack, url: str) -> Iterator[_Open]:
    server = url.rpartition("/")[0]
    for number, peer in enumerate(PEERS):
        database, store = f"{server}/{number}", f"{server}/{8 + number}"
        try:
            yield _Open(peer, stack.enter_context(peer.open(database, store)), database, store)
        except RuntimeError as exc:
            print(f"{' and '.join(peer.ways.values())}: not installed, so left out ({exc}).", flush=True)


def _start(stack: ExitStack, one: _Open) -> int:
    """Start the worker, and wait until it has run something."""
    one.child.ask("empty", 1)
    process = stack.enter_context(one.peer.work(one.url, one.store))
    one.child.run(next(iter(one.peer.runs)), 10, is_empty=True)
    _await_end(one)
    return process.pid


def _run(one: _Open, way: str, n: int, pid: int) -> Cost:
    """Fill the queue while the worker stands still; return what it costs the worker to empty it."""
    before = cpu_when_quiet(pid)
    send_all(pid, signal.SIGSTOP)
    try:
        one.child.run(way, n, is_empty=True)
    finally:
        send_all(pid, signal.SIGCONT)
    began = time.perf_counter()
    _await_end(one)
    took = time.perf_counter() - began
    return Cost((cpu_when_quiet(pid) - before) / n * 1e6, took / n * 1e6)


def _await_end(one: _Open) -> None:
    if one.redis.blpop([OVER_KEY], timeout=OVER_SECONDS) is None:
        raise RuntimeError(f"the worker of {' and '.join(one.peer.ways.values())} did not end")

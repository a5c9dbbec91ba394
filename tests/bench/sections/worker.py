"""What a member costs its worker, beside the same task on a worker without the extension.

For each pool two workers stand side by side. They take queues that were filled before, by turns: the same
task without the extension, with it outside a batch, and as a member. The CPU time is that of the worker's
processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from uuid import uuid4

from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.testing.server import embedded_server
from tests.bench.costs import Cost, Row, by_turns, cost_row, value_row
from tests.bench.processes import cpu_when_quiet, server_seconds
from tests.support.servers import running_worker, wait_until

BARE, OUTSIDE, MEMBER = "without the extension", "outside any batch", "a member"
TASKS = {0.0: 2000, 1.0: 1000, 10.0: 300}
POOLS = ("prefork", "threads", "solo")
AIMS = {  # by pool, milliseconds and case
    ("prefork", 0.0, MEMBER): 1.15,
    ("threads", 0.0, MEMBER): 1.15,
    ("solo", 0.0, MEMBER): 1.12,
    ("prefork", 1.0, MEMBER): 1.04,
}
OUTSIDE_AIM = 1.02


class Workers:
    """The two workers of one pool, and what they are given."""

    def __init__(self, broker: Redis, store: Redis, pids: dict[str, int]) -> None:
        from tests.projects import bench_app

        self.app = bench_app.app
        self.spin = bench_app.spin
        self.broker = broker
        self.store = store
        self.pids = pids
        self.store_costs: list[float] = []

    def run(self, case: str, n: int, milliseconds: float) -> Cost:
        """Let a worker run so many tasks; return what each costs it."""
        name = "bare" if case == BARE else "batches"
        queue, pid = f"bench-{uuid4().hex[:8]}", self.pids[name]
        batch = self._fill(queue, case, n, milliseconds)
        before, store_before, began = cpu_when_quiet(pid), server_seconds(self.store), time.perf_counter()
        where = {"destination": [f"{name}@bench"], "reply": True, "limit": 1, "timeout": 10}
        self.app.control.add_consumer(queue, **where)
        wait_until(lambda: not self.broker.exists(queue) and not self.broker.hlen("unacked"), seconds=120)
        took = time.perf_counter() - began
        if batch is not None:
            wait_until(lambda: batch.status().state == "success")
        spent, store_spent = cpu_when_quiet(pid) - before, server_seconds(self.store) - store_before
        self.app.control.cancel_consumer(queue, **where)
        if case == MEMBER:
            self.store_costs.append(store_spent / n * 1e6)
        return Cost(spent / n * 1e6, took / n * 1e6)

    def _fill(self, queue: str, case: str, n: int, milliseconds: float) -> Batch | None:
        calls = [self.spin.s(milliseconds).set(queue=queue) for _ in range(n)]
        if case == MEMBER:
            batch = Batch(app=self.app)
            batch.add(*calls)
            return batch
        with self.app.producer_or_acquire() as producer:
            for call in calls:
                call.apply_async(producer=producer)
        return None


def measure(rounds: int, pools: Sequence[str], tasks: Sequence[float], share: float = 1.0) -> Iterator[Row]:
    """Yield the rows of these pools, for tasks of so many milliseconds of CPU."""
    with embedded_server() as url, embedded_server() as broker_url:
        os.environ |= {"BATCHES_TEST_URL": url, "BENCH_BROKER": broker_url}
        for pool in pools:
            with ExitStack() as stack:
                pids = {}
                for name, bare in (("bare", "1"), ("batches", "")):
                    options = ("-n", f"{name}@bench", "-l", "WARNING")
                    worker = running_worker(url, pool, *options, app="bench_app", BENCH_BARE=bare)
                    pids[name] = stack.enter_context(worker).pid
                workers = Workers(Redis.from_url(broker_url), Redis.from_url(url), pids)
                for milliseconds in tasks if pool == "prefork" else tasks[:1]:
                    yield from _measure_pool(workers, pool, milliseconds, rounds, share)


def _measure_pool(
    workers: Workers, pool: str, milliseconds: float, rounds: int, share: float
) -> Iterator[Row]:
    n = max(100, round(TASKS.get(milliseconds, 1000) * share))
    workers.store_costs.clear()
    cases = {case: partial(workers.run, case, n, milliseconds) for case in (BARE, OUTSIDE, MEMBER)}
    costs = by_turns(cases, rounds)
    work = f"{milliseconds:g} ms of work" if milliseconds else "no work"
    for case in (OUTSIDE, MEMBER):
        most = OUTSIDE_AIM if case == OUTSIDE else AIMS.get((pool, milliseconds, case))
        yield cost_row("Worker", f"{case}, {pool}, {work}", costs[case], costs[BARE], most=most)
    yield value_row("Worker", f"the store, a member, {pool}, {work}", workers.store_costs[-rounds:], "µs")

"""Measure what a member costs its worker: `python tests/bench/member_cost.py`.

For each pool two workers stand side by side, one without the extension and one with it. They take queues that
were filled before, by turns: the same task without the extension, with it outside a batch, and as a member.
The CPU time is that of the worker's processes, as Linux counts it. Ratios are medians over the rounds, each
beside the worker without the extension in the same round; the smallest and the largest stand behind them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).parents[2]))

from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.testing.server import embedded_server
from tests.support.servers import running_worker, wait_until

TICKS = os.sysconf("SC_CLK_TCK")
QUIET_SECONDS = 0.3
TASKS = {0.0: 2000, 1.0: 1500, 10.0: 300}
CASES = ("without the extension", "outside a batch", "member")


class Bench:
    """The workers of one pool by name, and what they are given."""

    def __init__(self, broker: Redis, store: Redis, pids: dict[str, int]) -> None:
        from tests.projects import bench_app

        self.app = bench_app.app
        self.spin = bench_app.spin
        self.broker = broker
        self.store = store
        self.pids = pids

    def run(self, case: str, n: int, milliseconds: float) -> tuple[float, float]:
        """Let a worker run n tasks; return its microseconds of CPU per task, and the store's."""
        worker = "bare" if case == CASES[0] else "batches"
        queue, pid = f"bench-{uuid4().hex[:8]}", self.pids[worker]
        calls = [self.spin.s(milliseconds).set(queue=queue) for _ in range(n)]
        if case == "member":
            batch = Batch(app=self.app)
            batch.add(*calls)
        else:
            with self.app.producer_or_acquire() as producer:
                for call in calls:
                    call.apply_async(producer=producer)
        before, store_before = cpu_when_quiet(pid), self.store_seconds()
        where = {"destination": [f"{worker}@bench"], "reply": True, "limit": 1, "timeout": 10}
        self.app.control.add_consumer(queue, **where)
        wait_until(lambda: not self.broker.exists(queue) and not self.broker.hlen("unacked"), seconds=120)
        after, store_after = cpu_when_quiet(pid), self.store_seconds()
        self.app.control.cancel_consumer(queue, **where)
        if case == "member":
            assert batch.status().state == "success"
        return (after - before) / n * 1e6, (store_after - store_before) / n * 1e6

    def store_seconds(self) -> float:
        """Return the CPU time of the store."""
        spent = self.store.info("cpu")
        return float(spent["used_cpu_user"] + spent["used_cpu_sys"])


def cpu_when_quiet(pid: int) -> float:
    """Wait until a worker rests; return the CPU time of its main process and its children."""
    last = sum(map(_cpu_seconds, _family(pid)))
    while True:
        time.sleep(QUIET_SECONDS)
        now = sum(map(_cpu_seconds, _family(pid)))
        if now - last < 2 / TICKS:
            return now
        last = now


def _cpu_seconds(pid: int) -> float:
    """Return a process's CPU time, to the nanosecond: Linux's ticks are too coarse for a short run."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def measure(bench: Bench, pool: str, milliseconds: float, rounds: int, share: float) -> None:
    """Print what the cases cost, run by turns; the first round only warms up."""
    n = max(100, round(TASKS.get(milliseconds, 1000) * share))
    rows: list[dict[str, tuple[float, float]]] = []
    for number in range(rounds + 1):
        cases = CASES if number % 2 else CASES[::-1]
        rows.append({case: bench.run(case, n, milliseconds) for case in cases})
    for case in CASES:
        costs = [row[case] for row in rows[1:]]
        ratios = [row[case][0] / row[CASES[0]][0] for row in rows[1:]]
        cpu, store = (statistics.median(column) for column in zip(*costs, strict=True))
        print(
            f"{pool:8} {milliseconds:4.0f} ms  {case:22} {cpu:6.0f} us, the store {store:4.0f} us  "
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})",
            flush=True,
        )


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", default="0,1", help="milliseconds of CPU per task")
    parser.add_argument("--pools", default="prefork,threads,solo")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of tasks")
    options = parser.parse_args()
    with embedded_server() as url, embedded_server() as broker_url:
        os.environ |= {"BATCHES_TEST_URL": url, "BENCH_BROKER": broker_url}
        for pool in options.pools.split(","):
            with ExitStack() as stack:
                pids = {}
                for name, bare in (("bare", "1"), ("batches", "")):
                    worker = running_worker(
                        url, pool, "-n", f"{name}@bench", "-l", "WARNING", app="bench_app", BENCH_BARE=bare
                    )
                    pids[name] = stack.enter_context(worker).pid
                bench = Bench(Redis.from_url(broker_url), Redis.from_url(url), pids)
                for milliseconds in map(float, options.tasks.split(",")):
                    measure(bench, pool, milliseconds, options.rounds, options.share)


if __name__ == "__main__":
    main()

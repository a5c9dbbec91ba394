"""What a member costs the worker, beside the same task outside a batch: `python tests/bench/member_cost.py`.

One prefork worker takes queues that are full before it sees them, one with members and one without by turns.
Its CPU time is that of its main process and its children, as Linux counts it; the store's is told beside it,
and that of the producer and of the broker is left out. Wall time depends on what else runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
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


class Bench:
    """One worker, and what it is given."""

    def __init__(self, broker: Redis, store: Redis, pid: int) -> None:
        from tests.projects import bench_app

        self.app = bench_app.app
        self.spin = bench_app.spin
        self.broker = broker
        self.store = store
        self.pid = pid

    def run(self, n: int, milliseconds: float, *, batch: bool) -> tuple[float, float, float]:
        """Let the worker run n tasks.

        Return its microseconds of CPU per task, tasks per second, and the store's microseconds per task.
        """
        queue = f"bench-{uuid4().hex[:8]}"
        calls = [self.spin.s(milliseconds).set(queue=queue) for _ in range(n)]
        if batch:
            made = Batch(app=self.app)
            made.add(*calls)
        else:
            with self.app.producer_or_acquire() as producer:
                for call in calls:
                    call.apply_async(producer=producer)
        before, store_before = self.cpu_when_quiet(), self.store_seconds()
        began = time.perf_counter()
        self.app.control.add_consumer(queue, reply=True, limit=1, timeout=10)
        wait_until(lambda: not self.broker.exists(queue) and not self.broker.hlen("unacked"), seconds=120)
        took = time.perf_counter() - began
        after, store_after = self.cpu_when_quiet(), self.store_seconds()
        self.app.control.cancel_consumer(queue, reply=True, limit=1, timeout=10)
        if batch:
            assert made.status().state == "success"
        return (after - before) / n * 1e6, n / took, (store_after - store_before) / n * 1e6

    def cpu_when_quiet(self) -> float:
        """Wait until the worker rests."""
        last = self.cpu_seconds()
        while True:
            time.sleep(QUIET_SECONDS)
            now = self.cpu_seconds()
            if now - last < 2 / TICKS:
                return now
            last = now

    def store_seconds(self) -> float:
        """The CPU time of the store."""
        spent = self.store.info("cpu")
        return float(spent["used_cpu_user"] + spent["used_cpu_sys"])

    def cpu_seconds(self) -> float:
        """The CPU time of the worker's main process and its children."""
        return sum(map(_cpu_seconds, _family(self.pid)))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / TICKS


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tasks", default="0,1,10", help="milliseconds of CPU per task")
    options = parser.parse_args()
    with embedded_server() as url, embedded_server() as broker_url:
        os.environ |= {"BATCHES_TEST_URL": url, "BENCH_BROKER": broker_url}
        with running_worker(url, "prefork", app="bench_app") as worker:
            bench = Bench(Redis.from_url(broker_url), Redis.from_url(url), worker.pid)
            for batch in (True, False):
                bench.run(1000, 0, batch=batch)
            for milliseconds in map(float, options.tasks.split(",")):
                n = TASKS.get(milliseconds, 1000)
                rows = []
                for pair in range(options.pairs):
                    runs = {b: bench.run(n, milliseconds, batch=b) for b in (pair % 2 == 0, pair % 2 == 1)}
                    rows.append((*runs[False], *runs[True]))
                plain, plain_rate, _, member, member_rate, store = map(
                    statistics.median, zip(*rows, strict=True)
                )
                cpu = statistics.median(row[3] / row[0] for row in rows)
                wall = statistics.median(row[1] / row[4] for row in rows)
                least = [min(column) for column in zip(*rows, strict=True)]
                print(
                    f"{milliseconds:4.0f} ms: CPU per task {plain:6.0f} us outside, {member:6.0f} us inside, "
                    f"ratio {cpu:.2f}; at best {least[0]:.0f} and {least[3]:.0f}, {least[3] / least[0]:.2f}; "
                    f"the store's {store:.0f} us; "
                    f"tasks per second {plain_rate:.0f} and {member_rate:.0f}, time ratio {wall:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

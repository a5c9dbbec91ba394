"""What a member costs the worker, beside the same task outside a batch: `python tests/bench/member_cost.py`.

One prefork worker takes queues that are full before it sees them, one with members and one without by turns.
Its CPU time is that of its main process and its children, as Linux counts it; wall time depends on what else
runs.
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

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent), str(TESTS / "bench")]

from redis import Redis  # noqa: E402
from servers import running_worker, wait_until  # noqa: E402

from celery_batches_notify import Batch  # noqa: E402
from celery_batches_notify.demo.valkey import embedded_server  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
QUIET_SECONDS = 0.3
TASKS = {0.0: 2000, 1.0: 1500, 10.0: 300}


class Bench:
    """One worker, and what it is given."""

    def __init__(self, redis: Redis, pid: int) -> None:
        import bench_app

        self.app = bench_app.app
        self.spin = bench_app.spin
        self.redis = redis
        self.pid = pid

    def run(self, n: int, milliseconds: float, *, batch: bool) -> tuple[float, float]:
        """Let the worker run n tasks; return the microseconds of CPU per task, and tasks per second."""
        queue = f"bench-{uuid4().hex[:8]}"
        calls = [self.spin.s(milliseconds).set(queue=queue) for _ in range(n)]
        if batch:
            made = Batch(app=self.app)
            made.add(*calls)
        else:
            with self.app.producer_or_acquire() as producer:
                for call in calls:
                    call.apply_async(producer=producer)
        before = self.cpu_seconds()
        began = time.perf_counter()
        self.app.control.add_consumer(queue, reply=True, limit=1, timeout=10)
        wait_until(lambda: not self.redis.exists(queue) and not self.redis.hlen("unacked"), seconds=120)
        took = time.perf_counter() - began
        after = self.cpu_when_quiet()
        self.app.control.cancel_consumer(queue, reply=True, limit=1, timeout=10)
        if batch:
            assert made.status().state == "success"
        return (after - before) / n * 1e6, n / took

    def cpu_when_quiet(self) -> float:
        """Wait until the worker rests."""
        last = self.cpu_seconds()
        while True:
            time.sleep(QUIET_SECONDS)
            now = self.cpu_seconds()
            if now - last < 2 / TICKS:
                return now
            last = now

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
    with embedded_server() as url:
        os.environ["BATCHES_TEST_URL"] = url
        with running_worker(url, "prefork", app="bench_app", PYTHONPATH=":".join(sys.path[:3])) as worker:
            bench = Bench(Redis.from_url(url), worker.pid)
            bench.run(1000, 0, batch=True)
            for milliseconds in map(float, options.tasks.split(",")):
                n = TASKS.get(milliseconds, 1000)
                rows = []
                for pair in range(options.pairs):
                    runs = {b: bench.run(n, milliseconds, batch=b) for b in (pair % 2 == 0, pair % 2 == 1)}
                    rows.append((*runs[False], *runs[True]))
                plain, plain_rate, member, member_rate = map(statistics.median, zip(*rows, strict=True))
                cpu = statistics.median(row[2] / row[0] for row in rows)
                wall = statistics.median(row[1] / row[3] for row in rows)
                least = [min(column) for column in zip(*rows, strict=True)]
                print(
                    f"{milliseconds:4.0f} ms: CPU per task {plain:6.0f} us outside, {member:6.0f} us inside, "
                    f"ratio {cpu:.2f}; at best {least[0]:.0f} and {least[2]:.0f}, ratio {least[2] / least[0]:.2f}; "
                    f"tasks per second {plain_rate:.0f} and {member_rate:.0f}, time ratio {wall:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

"""What `keep_calls` costs per member, by size of argument: `python tests/bench/keep_calls_cost.py`.

Told are the producer's wall time and CPU, the store's CPU, and its bytes before any member has run.
Each is a median over batches that keep their calls and batches that do not, by turns.
Broker and store are two servers, so that the broker's bytes stay out. No worker runs.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent), str(TESTS / "bench")]

from redis import Redis  # noqa: E402

from celery_batches_notify import Batch  # noqa: E402
from celery_batches_notify.demo.valkey import embedded_server  # noqa: E402

WORDS = ("order", "invoice", "customer", "amount", "country", "refund", "parcel", "street", "number")


def make_text(size: int, draw: random.Random) -> str:
    """Words and digits, which compress about as arguments do."""
    text = ""
    while len(text) < size:
        text += f"{draw.choice(WORDS)}-{draw.randrange(10**6)} "
    return text[:size]


def publish(app: object, task: object, store: Redis, texts: list[str], *, keep: bool) -> tuple[float, ...]:
    """Publish a batch; return wall, CPU and store CPU in microseconds, and the store's bytes, per member."""
    store.flushdb()
    calls = [task.s(text) for text in texts]  # type: ignore[attr-defined]
    bytes_before, cpu_before = _bytes(store), _cpu(store)
    began, began_cpu = time.perf_counter(), time.process_time()
    Batch(app=app, keep_calls=keep).add(*calls)  # type: ignore[arg-type]
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    spent = (wall * 1e6, cpu * 1e6, (_cpu(store) - cpu_before) * 1e6, _bytes(store) - bytes_before)
    return tuple(each / len(texts) for each in spent)


def _bytes(store: Redis) -> int:
    return int(store.info("memory")["used_memory_dataset"])


def _cpu(store: Redis) -> float:
    spent = store.info("cpu")
    return float(spent["used_cpu_user"] + spent["used_cpu_sys"])


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--sizes", default="10,1000,10000", help="characters of the one argument")
    options = parser.parse_args()
    with embedded_server() as url, embedded_server() as broker_url:
        os.environ |= {"BATCHES_TEST_URL": url, "BENCH_BROKER": broker_url}
        import bench_app

        store, broker, draw = Redis.from_url(url), Redis.from_url(broker_url), random.Random(1)
        for size in map(int, options.sizes.split(",")):
            rows: dict[bool, list[tuple[float, ...]]] = {True: [], False: []}
            for pair in range(options.pairs + 1):
                texts = [make_text(size, draw) for _ in range(options.members)]
                for keep in (pair % 2 == 0, pair % 2 == 1):
                    row = publish(bench_app.app, bench_app.spin, store, texts, keep=keep)
                    broker.flushdb()
                    rows[keep] += [row] if pair else []  # the first warms up
            left, kept = ([statistics.median(c) for c in zip(*rows[k], strict=True)] for k in (False, True))
            wall, cpu, store_cpu, size_kept = (b - a for a, b in zip(left, kept, strict=True))
            print(
                f"{size:6d} characters: producer {left[0]:.0f} us and {wall:+.0f} us "
                f"(CPU {left[1]:.0f} and {cpu:+.0f}), store CPU {left[2]:.1f} us and {store_cpu:+.1f} us, "
                f"store {left[3]:.0f} bytes and {size_kept:+.0f} bytes per member",
                flush=True,
            )


if __name__ == "__main__":
    main()

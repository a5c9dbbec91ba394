"""What it costs to keep the calls of a batch: `python tests/bench/keep_calls.py [--members N] [--pairs N]`.

The producer fills batches with kept calls and without by turns, over an embedded Valkey that is broker and
store. It prints the producer's time per member, side by side, and how much the store's memory grows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, Batches
from celery_batches_notify.testing.server import embedded_server

ARGUMENTS = {
    "a number": lambda n: n,
    "a row of 200 bytes": lambda n: {"id": n, "name": f"customer {n}", "note": f"{n * 7919:x}" * 15},
    "a text of 2,000 bytes": lambda n: "".join(f"{n * k:x} " for k in range(1, 300))[:2000],
}


def row(argument: object) -> None:
    """Be called, though no worker is there."""


def main() -> None:
    """Print a line per kind of argument."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=5000)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    with embedded_server() as url, Redis.from_url(url) as client:
        app = Celery("bench", broker=url, set_as_current=False)
        app.conf.batches_backend_url = url
        Batches(app)
        task = app.task(row, name="bench.row", shared=False)
        for words, argument in ARGUMENTS.items():
            items = [argument(n) for n in range(options.members)]
            runs: dict[bool, list[float]] = {True: [], False: []}
            for pair in range(options.pairs):
                for keep in (pair % 2 == 0, pair % 2 == 1):
                    batch, began = Batch(app=app, keep_calls=keep), time.process_time()
                    batch.map(task, items)
                    runs[keep].append((time.process_time() - began) / options.members * 1e6)
                    if keep:
                        size = client.memory_usage(f"batches:{{{batch.bid}}}:calls", samples=0)
                    batch.delete()
                    client.delete("celery")
            kept, plain = (statistics.median(runs[keep]) for keep in (True, False))
            print(
                f"{words:22} {size / options.members:6.0f} bytes in the store; the producer's CPU: "
                f"{plain:.0f} µs without, {kept:.0f} µs with ({kept / plain:.2f})"
            )


if __name__ == "__main__":
    main()

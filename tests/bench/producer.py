"""What it costs to send members, beside `delay()` without the extension: `python tests/bench/producer.py`.

Every round runs all ways, in turned order in every second round, on one server that is broker and store. What
counts is the producer's CPU time, because wall time (`--wall`) depends on what else runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from celery import Celery

from celery_batches_notify import Batch, Batches
from celery_batches_notify.testing.server import embedded_server

ROW = {"id": 1, "name": "Ada", "email": "ada@example.com", "tags": ["a", "b"], "amount": 12.5, "ok": True}
ROW |= {"none": None, "note": "x" * 170}
PAYLOADS: dict[str, object] = {"int": 7, "dict of 280 bytes": ROW, "int, results kept": 7}


class Producers:
    """Two apps for one broker, one of them with batches."""

    def __init__(self, broker: str, store: str, *, keeps_results: bool, **conf: object) -> None:
        self.plain, self.batching = (Celery(name, set_as_current=False) for name in ("plain", "batching"))
        for app in (self.plain, self.batching):
            app.conf.update(broker_url=broker, result_backend=store if keeps_results else None, **conf)
            app.task(name="bench.noop", ignore_result=not keeps_results)(_noop)
        self.batching.conf.update(batches_backend_url=store)
        Batches(self.batching)
        self.noop = self.plain.tasks["bench.noop"]
        self.member = self.batching.tasks["bench.noop"]

    def delay(self, items: list[object]) -> None:
        """Call the task without the extension."""
        for item in items:
            self.noop.delay(item)

    def map(self, items: list[object]) -> None:
        """Send members in bulk."""
        Batch(app=self.batching).map(self.member, items)

    def block(self, items: list[object]) -> None:
        """Send members in a block."""
        with Batch(app=self.batching):
            for item in items:
                self.member.delay(item)

    def add(self, items: list[object]) -> None:
        """Send signatures."""
        Batch(app=self.batching).add(*[self.member.s(item) for item in items])


def _noop(item: object) -> None:
    pass


def measure(
    ways: dict[str, Callable[[list[object]], None]],
    items: list[object],
    rounds: int,
    empty: Callable[[], object],
    clock: Callable[[], float],
) -> dict[str, list[float]]:
    """Return for each way what it took, in microseconds per call, in each round."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, rounds):
        order: Iterable[str] = ways if number % 2 == 0 else reversed(list(ways))
        for name in order:
            empty()
            began = clock()
            ways[name](items)
            if number >= 0:
                took[name].append((clock() - began) / len(items) * 1e6)
    return took


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--broker", help="another broker than the store's server")
    parser.add_argument("--wall", action="store_true", help="wall time instead of CPU time")
    parser.add_argument("--confirm", action="store_true", help="RabbitMQ confirms each message")
    options = parser.parse_args()
    transport = {"broker_transport_options": {"confirm_publish": True}} if options.confirm else {}
    with embedded_server() as url:
        broker = options.broker or url
        clock = time.perf_counter if options.wall else time.process_time
        for title, item in PAYLOADS.items():
            producers = Producers(broker, url, keeps_results="results" in title, **transport)
            ways = {w.__name__: w for w in (producers.delay, producers.map, producers.block, producers.add)}
            took = measure(ways, [item] * options.calls, options.rounds, producers.plain.control.purge, clock)
            for name, each in took.items():
                ratios = [plain / ours for plain, ours in zip(took["delay"], each, strict=True)]
                print(
                    f"{title:18} {name:6} {statistics.median(each):6.1f} us  "
                    f"{statistics.median(ratios):5.1f}x ({min(ratios):.1f}-{max(ratios):.1f})",
                    flush=True,
                )


if __name__ == "__main__":
    main()

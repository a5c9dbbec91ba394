"""What the package costs, beside Celery without it and beside other libraries: `tox -e bench`.

It starts its own servers, runs the cases of each part by turns, and prints a table. Ratios are medians over
the rounds, each beside its base in the same round, with the smallest and the largest. `--write` puts the
table and a picture into the documentation. `--quick` checks every way and its messages, then runs each part
once with small numbers, and prints no figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

from celery_batches_notify.testing.server import embedded_server
from tests.bench import checking, page_table
from tests.bench.costs import Row
from tests.bench.sections import peers, producer, store, worker
from tests.bench.servers import rabbitmq

Part = Callable[[], Iterator[Row]]


def find_parts(rounds: int) -> dict[str, Part]:
    """Return the parts at their full size."""
    return {
        "producer": lambda: producer.measure(rounds, 1000),
        "worker": lambda: worker.measure(rounds, worker.POOLS, (0.0, 1.0)),
        "store": lambda: store.measure(rounds, 5000, 10_000, 1_000_000),
        "peers": lambda: peers.measure(rounds, 1000, 500),
    }


def find_quick_parts() -> dict[str, Part]:
    """Return the parts at a size at which they only show that they run."""
    return {
        "check": _check,
        "producer": lambda: producer.measure(1, 100, memory=1000),
        "worker": lambda: worker.measure(1, ("solo",), (0.0,), share=0.05),
        "store": lambda: store.measure(1, 200, 100, 1000),
        "peers": lambda: peers.measure(1, 50, 0),
    }


def _check() -> Iterator[Row]:
    with embedded_server() as url, rabbitmq() as broker:
        checking.check_all(url, broker)
    return iter(())


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each case runs (%(default)s)")
    parser.add_argument("--only", choices=list(find_parts(1)), action="append", help="this part; repeatable")
    parser.add_argument("--quick", action="store_true", help="only whether everything works, in a minute")
    parser.add_argument("--write", action="store_true", help="write the figures into the documentation")
    options = parser.parse_args()
    if options.write and (options.quick or options.only):
        parser.error("--write needs all figures, so it goes with neither --quick nor --only")
    parts = find_quick_parts() if options.quick else find_parts(options.rounds)
    began, rows = time.monotonic(), list[Row]()
    for name in options.only or parts:
        print(f"\n{name}, after {time.monotonic() - began:.0f} s", flush=True)
        for row in parts[name]():
            rows.append(row)
            print(row.what if options.quick else page_table.line(row), flush=True)
    if options.quick:
        return
    print(f"\n{page_table.machine()}\n\n{page_table.table(rows)}")
    if options.write:
        page_table.write(rows)


if __name__ == "__main__":
    main()

"""The app that the benchmark's workers run; with `BENCH_BARE` it has no batches."""

from __future__ import annotations

import os
import time

from celery import signals

from tests.bench.celery_ways import make_app

app = make_app(
    os.environ["BENCH_BROKER"],
    os.environ["BATCHES_TEST_URL"],
    bare=bool(os.environ.get("BENCH_BARE")),
    results=bool(os.environ.get("BENCH_RESULTS")),
)


@app.task(name="bench.spin", ignore_result=True)
def spin(milliseconds: float) -> None:
    """Work for so long."""
    end = time.thread_time() + milliseconds / 1000
    while milliseconds and time.thread_time() < end:
        pass


@signals.worker_ready.connect
def say_ready(**_: object) -> None:
    """Say so at any level of logging."""
    print("bench is ready.", flush=True)

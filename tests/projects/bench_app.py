"""The app that the benchmark's workers run; with `BENCH_BARE` it has no batches."""

from __future__ import annotations

import os
import time

from celery import Celery, signals

from celery_batches_notify import Batches

URL = os.environ["BATCHES_TEST_URL"]

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(batches_backend_url=URL, broker_connection_retry_on_startup=True)
if not os.environ.get("BENCH_BARE"):
    Batches(app)


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

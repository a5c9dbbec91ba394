"""The app that the benchmark's worker runs."""

from __future__ import annotations

import os
import time

from celery import Celery

from celery_batches_notify import Batches

URL = os.environ["BATCHES_TEST_URL"]

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(batches_backend_url=URL, broker_connection_retry_on_startup=True)
Batches(app)


@app.task(name="bench.spin", ignore_result=True)
def spin(milliseconds: float) -> None:
    """Work for so long."""
    end = time.thread_time() + milliseconds / 1000
    while milliseconds and time.thread_time() < end:
        pass

"""The app that the workers of the canvas tests run."""

from __future__ import annotations

import os

from canvas_tasks import declare_tasks
from celery import Celery

from celery_batches_notify import Batches

URL = os.environ["BATCHES_TEST_URL"]

app = Celery("canvas", broker=URL)
app.conf.update(
    result_backend=os.environ["BATCHES_TEST_BACKEND"],
    task_default_queue=os.environ["BATCHES_TEST_QUEUE"],
    batches_backend_url=URL,
    result_chord_retry_interval=0.2,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=16,
)
Batches(app)
declare_tasks(app)

"""The app of test workers whose store goes away: they are not to wait for it as long as in production."""

from __future__ import annotations

import os

from celery import Celery

from celery_batches_notify import Batches
from tests.projects.proj_tasks import declare_tasks

app = Celery("proj", broker=os.environ["BATCHES_TEST_BROKER"])
app.conf.update(
    batches_backend_url=os.environ["BATCHES_TEST_URL"],
    batches_report_timeout=2,
    batches_sweep_interval=1,
    batches_spool_dir=os.environ["BATCHES_TEST_SPOOL"],
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=16,
)
Batches(app)
declare_tasks(app)

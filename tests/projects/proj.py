"""The app that test workers run."""

from __future__ import annotations

import json
import os

from celery import Celery

from celery_batches_notify import Batches
from tests.projects.proj_tasks import declare_tasks
from tests.support.failpoints import arm

URL = os.environ["BATCHES_TEST_URL"]

app = Celery("proj", broker=os.environ.get("BATCHES_TEST_BROKER", URL))
app.conf.update(
    result_backend=os.environ.get("BATCHES_TEST_BACKEND"),
    batches_backend_url=os.environ.get("BATCHES_TEST_STORE", URL),
    batches_backend_options=json.loads(os.environ.get("BATCHES_TEST_STORE_OPTIONS", "{}")),
    batches_prefix=os.environ.get("BATCHES_TEST_PREFIX", "batches"),
    batches_sweep_interval=1,
    batches_abandon_after=float(os.environ.get("BATCHES_TEST_ABANDON_AFTER", "3600")),
    task_acks_late=bool(os.environ.get("BATCHES_TEST_ACKS_LATE")),
    batches_linger=int(os.environ.get("BATCHES_TEST_LINGER", "3600")),
    batches_notifications=json.loads(os.environ.get("BATCHES_TEST_NOTIFICATIONS", "{}")),
    batches_web_url=os.environ.get("BATCHES_TEST_WEB"),
    batches_notifiers=json.loads(os.environ.get("BATCHES_TEST_NOTIFIERS", "{}")),
    batches_worker_lease=float(os.environ.get("BATCHES_TEST_LEASE", "20")),
    batches_lost_members=os.environ.get("BATCHES_TEST_LOST", "dead"),
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=16,
)
Batches(app)
declare_tasks(app)
arm()

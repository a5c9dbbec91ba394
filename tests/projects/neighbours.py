"""The app of the neighbours' tests; `BATCHES_TEST_NEIGHBOUR` names the package that is active beside it."""

from __future__ import annotations

import os

from celery import Celery

from celery_batches_notify import Batches
from tests.projects.neighbour_tasks import TRACERS, declare_special_tasks, declare_tasks, lock_settings

URL, QUEUE = os.environ["BATCHES_TEST_URL"], os.environ["BATCHES_TEST_QUEUE"]
NEIGHBOUR = os.environ["BATCHES_TEST_NEIGHBOUR"]

tracer = TRACERS[NEIGHBOUR]() if NEIGHBOUR in TRACERS else None

app = Celery("neighbours", broker=URL)
app.conf.update(
    result_backend="django-db" if NEIGHBOUR == "django" else URL,
    task_default_queue=QUEUE,
    batches_backend_url=os.environ.get("BATCHES_TEST_STORE", URL),
    batches_sweep_interval=3600,  # the sweeper, which is in no trace, publishes nothing
    broker_connection_retry_on_startup=True,
    beat_max_loop_interval=1,
    redbeat_redis_url=URL,
    redbeat_key_prefix=f"redbeat:{QUEUE}:",
    redbeat_lock_key=None,  # the only beat
    **lock_settings(URL),
)
Batches(app)
declare_tasks(app, tracer)
if NEIGHBOUR == "django":
    import django

    django.setup()
if NEIGHBOUR == "together":
    declare_special_tasks(app)

"""The app that the workers of the canvas tests run, in the world that the environment describes."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import after_task_publish, task_prerun
from redis import Redis

from celery_batches_notify import Batches
from tests.projects.canvas_tasks import declare_tasks, kill_who_sends, send_twice
from tests.support.failpoints import arm

URL = os.environ["BATCHES_TEST_URL"]
WORLD = os.environ.get("BATCHES_TEST_WORLD", "")

app = Celery("canvas", broker=URL)
app.conf.update(
    result_backend=os.environ["BATCHES_TEST_BACKEND"],
    task_default_queue=os.environ["BATCHES_TEST_QUEUE"],
    batches_backend_url=os.environ.get("BATCHES_TEST_STORE", URL),
    result_chord_retry_interval=0.2,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=16,
)
Batches(app)
declare_tasks(app)
arm()
if "sentry" in WORLD:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Nowhere(Transport):
        """Sends nothing."""

        def capture_envelope(self, envelope: object) -> None:
            pass

    @task_prerun.connect
    def note_inner_headers(task: object, **_: object) -> None:
        """Write down what `request.headers` holds, which is the inner headers alone where there are any."""
        with Redis.from_url(URL) as redis:
            redis.sadd(f"inner headers {app.conf.task_default_queue}", *(task.request.headers or {"none": 1}))
            redis.expire(f"inner headers {app.conf.task_default_queue}", 600)

    sentry_sdk.init(dsn="http://key@127.0.0.1:1/1", traces_sample_rate=1.0, transport=Nowhere)
if "twice" in WORLD:
    send_twice(app)
if "kill" in WORLD:
    after_task_publish.connect(kill_who_sends)
if "late acks" in WORLD:
    app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)

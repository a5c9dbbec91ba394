"""The app of the tests that upgrade the package. It runs with the version before, too."""

from __future__ import annotations

import json
import os
import time
from contextlib import closing

from celery import Celery, Task
from redis import Redis

from celery_batches_notify import Batches

URL = os.environ["BATCHES_TEST_URL"]

app = Celery("upgrade", broker=URL, backend=URL)
app.conf.update(
    batches_backend_url=os.environ.get("BATCHES_TEST_STORE", URL),
    batches_notifications=json.loads(os.environ.get("BATCHES_TEST_NOTIFICATIONS", "{}")),
    batches_spool_dir=os.environ.get("BATCHES_TEST_SPOOL"),
    batches_report_timeout=1,
    batches_sweep_interval=0.5,
    batches_worker_lease=5,
    batches_lost_members="resend",
    batches_abandon_after=float(os.environ.get("BATCHES_TEST_ABANDON_AFTER", "3600")),
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
)
Batches(app)


def note(*words: object) -> None:
    """Write down what happened, where the test can read it."""
    with closing(Redis.from_url(URL)) as client:
        client.rpush("notes", " ".join(map(str, words)))
        client.expire("notes", 24 * 3600)


def is_set(key: str) -> bool:
    with closing(Redis.from_url(URL)) as client:
        return bool(client.exists(key))


@app.task(name="upgrade.work")
def work(*_: object) -> None:
    """Succeed."""


@app.task(name="upgrade.fail")
def fail(healed_by: str = "never") -> None:
    """Fail, unless this key is set."""
    if not is_set(healed_by):
        raise ValueError(f"no {healed_by}")


@app.task(name="upgrade.hold")
def hold() -> None:
    """Run for as long as the key `holding` is set."""
    note("held")
    while is_set("holding"):
        time.sleep(0.05)


@app.task(name="upgrade.again", bind=True)
def again(self: Task) -> None:
    """Succeed at the second attempt, which waits in another queue."""
    if not self.request.retries:
        raise self.retry(exc=ValueError("the first time"), countdown=0, queue="celery")


@app.task(name="upgrade.told")
def told(status: dict, event: str) -> None:
    """Be called back."""
    note("told", status["description"], event)

"""The app of workers that are killed: what runs for long the first time, and at once the second."""

from __future__ import annotations

import os
import time

from celery import Celery, Task
from redis import Redis

from celery_batches_notify import Batches

STORE = os.environ["BATCHES_TEST_URL"]
BROKER = os.environ.get("BATCHES_TEST_BROKER", STORE)
LEASE_SECONDS = 5
PARKED = "parked"  # a queue that nobody takes at first

app = Celery("lost", broker=BROKER)
app.conf.update(
    batches_backend_url=STORE,
    batches_sweep_interval=1,
    batches_worker_lease=LEASE_SECONDS,
    batches_lost_members=os.environ.get("BATCHES_TEST_LOST", "dead"),
    broker_connection_retry_on_startup=True,
)
Batches(app)


def count(key: str) -> int:
    """Note that a task began, where the test can read it; return how often it has."""
    with Redis.from_url(BROKER, socket_timeout=None) as client:
        client.expire(f"runs:{key}", 600)
        return int(client.incr(f"runs:{key}"))


@app.task(name="lost.nap")
def nap(key: str, seconds: float = 60) -> None:
    """Take long the first time."""
    if count(key) == 1:
        time.sleep(seconds)


@app.task(name="lost.nap_late", acks_late=True)
def nap_late(key: str) -> None:
    """The same, acknowledged late."""
    nap(key)


@app.task(name="lost.nap_at_retry", bind=True)
def nap_at_retry(self, key: str) -> None:
    """Fail, and take long in the second attempt."""
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    nap(key)


class HangingAfter(Task):
    """Hangs between the next link, which has left, and the report."""

    def on_success(self, retval: object, task_id: str, args: tuple[str, ...], kwargs: object) -> None:
        count(args[0])
        time.sleep(60)


class HangingAtRetry(Task):
    """Hangs between its retry, which has left, and the report."""

    def on_retry(
        self, exc: object, task_id: str, args: tuple[str, ...], kwargs: object, einfo: object
    ) -> None:
        count(args[0])
        time.sleep(60)


@app.task(name="lost.hang_after", base=HangingAfter)
def hang_after(key: str) -> None:
    """Return, and hang once the next link has left."""


@app.task(name="lost.hang_at_retry", base=HangingAtRetry, bind=True)
def hang_at_retry(self, key: str) -> None:
    """Fail, and hang once the retry has left; return in the second attempt."""
    if self.request.retries == 0:
        raise self.retry(countdown=0, queue=PARKED)


@app.task(name="lost.ok")
def ok(key: str) -> None:
    """Return at once."""
    count(key)


@app.task(name="lost.late", bind=True, acks_late=True)
def late(self, key: str) -> None:
    """Fail, and return in the second attempt; acknowledged late."""
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    count(key)

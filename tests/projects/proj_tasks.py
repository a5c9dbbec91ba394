"""The tasks that test workers run, for any app: producers of tests know them too."""

from __future__ import annotations

import os
import signal
import time

from celery import Celery, Task, chain, current_app
from redis import Redis

from celery_batches_notify import Batch, current_batch


def note(*words: object) -> None:
    """Write down what happened, where the test can read it."""
    client = Redis.from_url(os.environ["BATCHES_TEST_URL"], socket_timeout=None)
    client.rpush("notes", " ".join(map(str, words)))
    client.expire("notes", 600)
    client.close()


def ok(x: object = None) -> object:
    return x


def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def ran(self) -> None:
    note("ran", self.request.id)


def fail(x: object = None) -> None:
    raise ValueError(f"failed {x}")


def unserialisable() -> object:
    return object()


def succeed_at(self, attempt: int) -> int:
    if self.request.retries + 1 < attempt:
        raise self.retry(exc=RuntimeError(f"attempt {self.request.retries + 1}"), countdown=2)
    return attempt


def fail_twice() -> None:
    raise KeyError("again")


def callback(status: dict, *words: str) -> None:
    note("callback", status["bid"], *words, status["state"], status["total"], status["succeeded"])


def die(self: Task, *_: object) -> None:
    """Kill the pool's process."""
    note("died", self.request.id)
    os.kill(os.getpid(), signal.SIGKILL)


def silent(*words: str) -> None:
    note("silent", *words)


def add_more(n: int) -> None:
    with current_batch():
        for i in range(n):
            current_app.tasks["proj.ok"].delay(i)


def which_batch(*_: object) -> None:
    batch = current_batch()
    note("which", batch.bid if batch else None)


def nest(children: int, members: int) -> None:
    """Open child batches inside the running member's batch."""
    with current_batch():
        for _ in range(children):
            with Batch(f"child of {children}"):
                for i in range(members):
                    current_app.tasks["proj.ok"].delay(i)


def fail_once(key: str) -> None:
    client = Redis.from_url(os.environ["BATCHES_TEST_URL"], socket_timeout=None)
    seen = client.set(f"once:{key}", 1, nx=True, ex=600)
    client.close()
    if seen:
        raise ValueError("the first time")


def replace_and_fail_once(self: Task, key: str) -> None:
    parts = current_app.tasks["proj.ok"].si(0), current_app.tasks["proj.fail_once"].si(key)
    raise self.replace(chain(*parts))


def watch_cancel(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if current_batch().cancelled:
            note("saw the cancel")
            return
        time.sleep(0.1)


OPTIONS = {
    "succeed_at": {"bind": True, "max_retries": 3},
    "fail_twice": {"autoretry_for": (KeyError,), "max_retries": 1, "default_retry_delay": 2},
    "ran": {"bind": True},
    "replace_and_fail_once": {"bind": True},
    "unserialisable": {"ignore_result": False},
}


def declare_tasks(app: Celery) -> None:
    """Give an app the tasks."""
    tasks = (
        ok,
        slow,
        ran,
        fail,
        unserialisable,
        succeed_at,
        fail_twice,
        callback,
        silent,
        add_more,
        which_batch,
    )
    app.task(die, name="proj.die", shared=False, bind=True)
    late = {"acks_late": True, "reject_on_worker_lost": True}  # Celery hands it back to the broker
    app.task(die, name="proj.die_late", shared=False, bind=True, **late)
    for task in (*tasks, nest, fail_once, replace_and_fail_once, watch_cancel):
        app.task(task, name=f"proj.{task.__name__}", shared=False, **OPTIONS.get(task.__name__, {}))

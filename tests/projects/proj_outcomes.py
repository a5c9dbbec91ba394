"""The app that the workers of the outcome table run: one task per way in which a task can end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from celery import Celery, Task, signals
from celery.backends.base import KeyValueStoreBackend
from celery.backends.redis import RedisBackend
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from redis import Redis

from celery_batches_notify import Batches
from celery_batches_notify.messages.run import run_of
from celery_batches_notify.store.store import Store
from tests.support.failpoints import arm

URL = os.environ["BATCHES_TEST_URL"]
KEPT_SECONDS = 600

app = Celery("outcomes", broker=os.environ["BATCHES_TEST_BROKER"])
app.conf.update(
    batches_backend_url=os.environ.get("BATCHES_TEST_STORE", URL),
    batches_worker_lease=5,
    batches_sweep_interval=1,
    broker_connection_retry_on_startup=True,
    accept_content=["json"],
)


class Down(KeyValueStoreBackend):
    """A result backend that is away."""

    def get(self, key: str) -> None:
        raise ConnectionError("the result backend is down")

    set = get_key_for_task = get  # type: ignore[assignment]


def ask(command: str, key: str, *arguments: object) -> object:
    """Tell or ask the test something."""
    with Redis.from_url(URL, decode_responses=True, socket_timeout=None) as client:
        answer = client.execute_command(command, f"outcomes:{key}", *arguments)
        if command != "GET":
            client.expire(f"outcomes:{key}", KEPT_SECONDS)
    return answer


def wait_for(key: str, value: str, seconds: float) -> None:
    """Wait until the test, or another task, said something."""
    deadline = time.monotonic() + seconds
    while ask("GET", key) != value and time.monotonic() < deadline:
        time.sleep(0.02)


# -- what lives in the workers beside the package ------------------------------------------------


@signals.worker_ready.connect(weak=False)
def on_worker_ready(sender: object, **_: object) -> None:
    ask("SET", f"pid:{sender.hostname}", os.getpid())


@signals.task_retry.connect(weak=False)
def on_task_retry(sender: Task, request: object, **_: object) -> None:
    """Stand before the package's receiver, and let the next attempt overtake it."""
    if sender.name == "overtaken":
        wait_for(f"ended:{request.id}", "2", seconds=8 if "solo" in sys.argv else 30)


def on_task_success(sender: Task, **_: object) -> None:
    """Stand behind the package's receiver: the success is counted."""
    if sender.name in ("overtaken", "raises_once", "returns_once"):
        ask("SET", f"ended:{sender.request.id}", 2)


def on_task_failure(sender: Task, **_: object) -> None:
    """Likewise behind it."""
    on_task_success(sender)


_record_outcome = Store.record_outcome


def record_slowly(self: Store, member: object, outcome: object) -> object:
    """Take so long to report that the soft limit hits in the middle of it."""
    if ask("GET", f"slow:{member.task_id}"):
        ask("DEL", f"slow:{member.task_id}")
        time.sleep(5)
    return _record_outcome(self, member, outcome)


Store.record_outcome = record_slowly


# -- the tasks -----------------------------------------------------------------------------------


class Noted(Task):
    """Counts how often each call ran, for the test and for itself."""

    def before_start(self, task_id: str, args: object, kwargs: object) -> None:
        self.request.run_number = ask("INCR", f"runs:{task_id}")

    @property
    def again(self) -> bool:
        """Whether this call ran before: a redelivered one returns at once."""
        return self.request.run_number > 1


class Unpicklable(Exception):
    def __reduce__(self) -> str:
        raise TypeError("cannot be pickled")


class UnpicklableValue(Unpicklable, ValueError):
    """Celery tells of a `ValueError` in its place."""


def returns(self: Noted) -> str:
    return "done"


def returns_object(self: Noted) -> object:
    return object()


def naps(self: Noted, seconds: float) -> None:
    deadline = time.monotonic() + seconds * (3 if "prefork" in sys.argv else 1)  # where others end it in time
    while time.monotonic() < deadline and not self.again:
        time.sleep(0.05)


def catches_soft_limit(self: Noted, seconds: float) -> str:
    try:
        naps(self, seconds)
    except SoftTimeLimitExceeded:
        return "saved what there was"
    return "was never told"


def reports_slowly(self: Noted) -> None:
    ask("SET", f"slow:{self.request.id}", 1)


def raises(self: Noted) -> None:
    raise ValueError("no")


def raises_once(self: Noted) -> None:
    if not self.again:
        raise ValueError("no")
    wait_for(f"ended:{self.request.id}", "2", seconds=30)


def returns_once(self: Noted) -> None:
    if self.again:
        wait_for(f"ended:{self.request.id}", "2", seconds=30)
        raise ValueError("no")


def raises_unpicklable(self: Noted) -> None:
    raise Unpicklable("no")


def raises_unpicklable_value(self: Noted) -> None:
    raise UnpicklableValue("no")


def retries_once(self: Noted, countdown: float = 10) -> None:
    """By default late enough that no next attempt overtakes the report of this one."""
    if not self.request.retries:
        raise self.retry(exc=ValueError("not yet"), countdown=countdown)


def retries_much_later(self: Noted) -> None:
    raise self.retry(exc=ValueError("not yet"), countdown=3600)


def calls_what_retries(self: Noted) -> None:
    app.tasks["retries_as_a_function"]()


def retries_as_a_function(self: Noted) -> None:
    raise self.retry()


def runs_out_of_retries(self: Noted) -> None:
    raise KeyError("again")


def rejects(self: Noted, requeue: bool) -> None:
    if not self.again:
        raise Reject("not mine", requeue=requeue)


def ignores(self: Noted) -> None:
    raise Ignore


def ignores_after_failing(self: Noted, state: str) -> None:
    self.update_state(state=state, meta={"exc_type": "ValueError", "exc_message": "no"})
    raise Ignore


def ignores_after_marking(self: Noted) -> None:
    self.backend.mark_as_failure(self.request.id, ValueError("no"), request=self.request)
    raise Ignore


def replaces(self: Noted) -> None:
    raise self.replace(self.app.signature("returns", queue=self.request.delivery_info["routing_key"]))


def goes_on(self: Noted, how: str) -> None:
    """Send itself again under its own id, and do not say so to Celery."""
    if self.request.retries or self.again:
        return
    if how == "calls itself":
        queue = self.request.delivery_info["routing_key"]
        self.apply_async((how,), task_id=self.request.id, queue=queue, countdown=2)
        return
    self.retry(throw=False, countdown=10)
    if how == "raises":
        raise ValueError("not yet")
    if how == "ignores":
        raise Ignore


def exits(self: Noted, how: str) -> None:
    if self.again:
        return
    if how == "SystemExit":
        sys.exit(3)
    raise {"KeyboardInterrupt": KeyboardInterrupt, "CancelledError": asyncio.CancelledError}[how]


def kills_its_process(self: Noted) -> None:
    if not self.again:
        wait_until_accepted(self)
        os.kill(os.getpid(), signal.SIGKILL)


def wait_until_accepted(self: Noted) -> None:
    """Wait until the main process knows what this child runs: else it does not know what is lost with it."""
    inspect = app.control.inspect([self.request.hostname], timeout=5)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = inspect.active() or {}
        if any(task["id"] == self.request.id for task in answer.get(self.request.hostname, ())):
            return


def tells_limits(self: Noted) -> None:
    ask("SET", f"limits:{self.request.id}", str(list(run_of(self.request).limits)))


EARLY: dict[str, object] = {"acks_late": False}
LATE: dict[str, object] = {"acks_late": True}
REQUEUED = {**LATE, "reject_on_worker_lost": True}
TIMES_OUT_REQUEUED = {**LATE, "acks_on_failure_or_timeout": False}
RETRIED = {"retry_on_worker_lost": True, "default_retry_delay": 10, "max_retries": 2}
WITH_RESULTS = {"backend": RedisBackend(app=app, url=URL)}
WITHOUT_RESULTS = {"backend": Down(app=app)}

TASKS = {
    returns: {"": EARLY, "late": LATE, "stored": WITH_RESULTS, "down": WITHOUT_RESULTS},
    returns_object: {"": EARLY, "stored": WITH_RESULTS},
    naps: {"": EARLY, "late": LATE, "requeued": TIMES_OUT_REQUEUED},
    catches_soft_limit: {"": EARLY},
    reports_slowly: {"": EARLY},
    raises: {"": EARLY, "late": LATE, "down": WITHOUT_RESULTS},
    raises_once: {"": EARLY},
    returns_once: {"": EARLY},
    raises_unpicklable: {"": EARLY, "stored": WITH_RESULTS},
    raises_unpicklable_value: {"": EARLY},
    retries_once: {"": EARLY, "late": LATE, "down": WITHOUT_RESULTS},
    retries_much_later: {"": EARLY},
    calls_what_retries: {"": EARLY},
    retries_as_a_function: {"": EARLY},
    runs_out_of_retries: {"": {"autoretry_for": (KeyError,), "max_retries": 1, "default_retry_delay": 1}},
    rejects: {"": EARLY, "late": LATE},
    ignores: {"": EARLY, "late": LATE},
    ignores_after_failing: {"": EARLY, "stored": WITH_RESULTS},
    ignores_after_marking: {"": EARLY, "stored": WITH_RESULTS},
    replaces: {"": EARLY},
    goes_on: {"": EARLY},
    exits: {"": EARLY, "stored": WITH_RESULTS, "late": LATE, "requeued": REQUEUED},
    tells_limits: {"": EARLY},
    kills_its_process: {"": EARLY, "late": LATE, "requeued": REQUEUED, "retried": RETRIED},
}

Batches(app)
arm()
signals.task_success.connect(on_task_success, weak=False)
signals.task_failure.connect(on_task_failure, weak=False)
for function, variants in TASKS.items():
    for variant, options in variants.items():
        name = f"{function.__name__}.{variant}".strip(".")
        app.task(function, name=name, bind=True, base=Noted, shared=False, **options)
app.task(retries_once, name="overtaken", bind=True, base=Noted, shared=False)

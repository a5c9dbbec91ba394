"""The tasks that canvases in tests are made of, for any app."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import SimpleNamespace
from uuid import uuid4

from celery import Celery, Signature, chain, chord, group
from celery._state import get_current_worker_task as current_worker_task
from celery.exceptions import Ignore, Reject

from celery_batches_notify import current_batch, outside_batch


def t(*_: object) -> int:
    return 1


def t2(*_: object) -> int:
    return 2


def lk(*_: object) -> int:
    return 3


def body(*_: object) -> int:
    return 4


def add(x: int, y: int) -> int:
    return x + y


def boom(*_: object) -> None:
    raise ValueError("boom")


def eb_old(task_id: str) -> None:
    """An errback in the old style: called here and now, with the id."""


def eb(*_: object) -> None:
    """An errback in the new style: with request, exception and traceback."""


def retries(self, *_: object) -> int:
    if not self.request.retries:
        raise self.retry(countdown=0)
    return 1


def gives_up(self, *_: object) -> None:
    raise self.retry(exc=ValueError("gave up"), countdown=0)


def autoretries(self, *_: object) -> int:
    if not self.request.retries:
        raise KeyError("again")
    return 1


def replaced(self, what: str, left: int = 2) -> None:
    p = self.app.tasks
    t, t2, body, boom = (p[f"canvas.{name}"] for name in ("t", "t2", "body", "boom"))
    me = p["canvas.replaced"]
    raise self.replace(
        {
            "single": lambda: t.si(),
            "linked": lambda: t.si().set(link=p["canvas.lk"].s()),
            "fails": lambda: boom.si(),
            "thrice": lambda: me.si("thrice", left - 1) if left else t.si(),
            "chain": lambda: chain(t.si(), t2.s(), t.s()),
            "chain fails": lambda: chain(boom.si(), t2.s(), t.s()),
            "group": lambda: group(t.si(), t2.si()),
            "group fails": lambda: group(boom.si(), t2.si()),
            "chain kills": lambda: chain(p["canvas.kills"].si(), t2.s(), t.s()),
            "chord": lambda: chord([t.si(), t2.si()], body.s()),
            "chain of chain": lambda: chain(t.si(), me.si("chain")),
            "chord of chain": lambda: chord([t.si(), t2.si()], me.si("chain")),
        }[what]()
    )


def delays(self, *_: object) -> None:
    self.app.tasks["canvas.t"].delay()
    self.app.tasks["canvas.t2"].delay()


def forwards(self, *_: object) -> None:
    self.app.tasks["canvas.t"].apply_async(headers=dict(self.request.headers or {}))


def adds(self, what: str = "single") -> int:
    t, t2, body = (self.app.tasks[f"canvas.{name}"] for name in ("t", "t2", "body"))
    self.add_to_chord(
        {
            "single": lambda: t2.s(),
            "chain": lambda: chain(t.si(), t2.s()),
            "group": lambda: group(t.si(), t2.si()),
            "chord": lambda: chord([t.si(), t2.si()], body.s()),
            "chord in a chain": lambda: chain(t.si(), chord([t.si(), t2.si()], body.s())),
        }[what]()
    )
    return 1


def adds_lazily(self) -> int:
    self.add_to_chord(self.app.tasks["canvas.t2"].s(), lazy=True).delay()
    return 1


def retries_anew(self, *_: object) -> int:
    if not self.request.retries:
        raise self.retry(countdown=0, task_id=uuid4().hex)
    return 1


def goes_on(self, *_: object) -> int:
    """Call itself again under its own id, and return."""
    if not self.request.retries:
        self.retry(countdown=0.5, throw=False)
    return 1


def passes_on(self, *_: object) -> int:
    """Let another task go on with its chain."""
    rest, self.request.chain = self.request.chain, None
    self.app.tasks["canvas.t2"].apply_async(chain=rest)
    return 1


def calls(self, name: str) -> None:
    """Call a shape, as a member of the batch that it then belongs to."""
    from tests.support.canvas_shapes import SHAPES

    with current_batch(self.app):
        call(next(shape for shape in SHAPES if shape.name == name).build(named_tasks(self.app)))


def adds_more(self, n: int) -> None:
    with current_batch(self.app):
        for _ in range(n):
            self.app.tasks["canvas.t"].delay()


def ignores() -> None:
    raise Ignore


def rejects() -> None:
    raise Reject("no", requeue=False)


def sleeps() -> None:
    time.sleep(30)


def dies() -> None:
    os._exit(1)


def kills(*_: object) -> int:
    """See `kill_who_sends`: its predecessor's process is killed once this has left."""
    return 5


BOUND = {"bind": True}
TASKS = {
    **{f: {} for f in (t, t2, lk, body, add, boom, eb_old, eb, ignores, rejects, sleeps, dies, kills)},
    **dict.fromkeys((replaced, delays, forwards, adds, adds_lazily, adds_more), BOUND),
    **dict.fromkeys((retries_anew, goes_on, passes_on, calls), BOUND),
    retries: BOUND,
    gives_up: {**BOUND, "max_retries": 1},
    autoretries: {**BOUND, "autoretry_for": (KeyError,), "retry_backoff": False, "default_retry_delay": 0},
}


def declare_tasks(app: Celery) -> None:
    """Give an app the tasks."""
    for function, options in TASKS.items():
        app.task(function, name=f"canvas.{function.__name__}", shared=False, **options)


def named_tasks(app: Celery) -> SimpleNamespace:
    """The tasks by name, and what else `Shape.build` takes."""
    named = {name.partition(".")[2]: task for name, task in app.tasks.items() if name[:7] == "canvas."}
    queue = app.conf.task_default_queue
    return SimpleNamespace(
        app=app, q2=f"{queue}-2", outside_batch=outside_batch, unique=lambda: uuid4().hex, **named
    )


def call(built: Signature | Callable[[], object]) -> None:
    """Call what a shape has built."""
    built.apply_async() if isinstance(built, Signature) else built()


def send_twice(app: Celery) -> None:
    """Let the broker deliver each message twice."""
    sender = app.amqp.send_task_message
    send = sender.send

    def twice(*args: object, **options: object) -> object:
        send(*args, **options)
        return send(*args, **options)

    sender.__dict__["send"] = twice


def kill_who_sends(sender: str, **_: object) -> None:
    """Kill the process that has just sent `kills`, before it can report; not when it does so again."""
    task = current_worker_task()
    if sender == "canvas.kills" and task and not task.request.delivery_info.get("redelivered"):
        os.kill(os.getpid(), signal.SIGKILL)

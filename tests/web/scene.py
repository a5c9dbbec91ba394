"""Batches to look at: in any state, of any size, without a worker."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from uuid import UUID
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.engine import find_engine
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import Failure
from celery_batches_notify.web.serving import PageServer
from tests.support.servers import wait_until

TASK = "billing.tasks.send_invoice"
TRACE = """Traceback (most recent call last):
  File "/usr/lib/python3.11/site-packages/celery/app/trace.py", line 453, in trace_task
    R = retval = fun(*args, **kwargs)
  File "/srv/billing/tasks.py", line {line}, in {name}
    {code}
{error}: {message}
"""


def trace(
    error: str, message: str, *, line: int = 41, name: str = "send_invoice", code: str = "send()"
) -> str:
    return TRACE.format(error=error, message=message, line=line, name=name, code=code)


def fail(error: str = "KeyError", message: str = "'vat'", *, task: str = TASK, **frame: Any) -> Failure:
    """One failure, as a member reports it."""
    backtrace = trace(error, message, **frame)
    values = {"task_id": "", "task": task, "error_class": error, "error_message": message}
    return Failure(**values, backtrace=backtrace, retries=0)


def make_batch(app: Celery, total: int, description: str = "Import rows", **options: Any) -> Batch:
    """A sealed batch of so many members, which wait; with `on=[(event, target), …]` its callbacks."""
    callbacks: Sequence[tuple[str, Any]] = options.pop("on", ())
    batch = Batch(description, app=app, **options)
    for event, target in callbacks:
        batch.on(event, target)
    task = app.tasks.get(TASK) or app.task(name=TASK, shared=False)(_do_nothing)
    if total:
        batch.map(task, range(total))
    else:
        batch.seal()
    return batch


def report(batch: Batch, states: Mapping[int, State], failures: Mapping[int, Failure] | None = None) -> None:
    """Let members end so."""
    store = find_engine(batch.app).store
    for start in range(0, max(states) + 1, 1000):
        count = min(1000, max(states) + 1 - start)
        for member in store.read_members(batch.bid, start, count):
            if (state := states.get(member.index)) is None:
                continue
            bad = state in (State.DEAD, State.FAILING)
            failure = (failures or {}).get(member.index, fail()) if bad else None
            if failure is not None:
                values = {name: getattr(failure, name) for name in Failure.__dataclass_fields__}
                failure = Failure(**{**values, "task_id": member.id})
            call = {"id": member.id, "task": TASK, "args": [1], "kwargs": {}, "options": {}}
            resend = json.dumps(call) if state == State.DEAD else ""
            outcome = Outcome(state=state, failure=failure, resend=resend)
            store.record_outcome(Membership(bid=batch.bid, index=member.index, task_id=member.id), outcome)


def write_states(redis: Redis, batch: Batch, total: int, states: Mapping[State, Sequence[int]]) -> None:
    """Give a batch very many members, succeeded if nothing else is said, by writing what scripts would."""
    key = f"batches:{{{batch.bid}}}"
    packed = bytearray(b"\xff" * -(-total // 4))
    for state, indexes in states.items():
        for index in indexes:
            shift = 6 - index % 4 * 2
            packed[index // 4] = packed[index // 4] & ~(3 << shift) & 255 | state << shift
    counts = {state: len(indexes) for state, indexes in states.items()}
    redis.set(f"{key}:states", bytes(packed), keepttl=True)
    redis.set(f"{key}:members", b"".join(UUID(int=n).bytes for n in range(total)), keepttl=True)
    for part in ("states", "members"):
        redis.expire(f"{key}:{part}", 3600)
    fields = {
        "total": total,
        "succeeded": total - sum(counts.values()),
        "failing": counts.get(State.FAILING, 0),
        "dead": counts.get(State.DEAD, 0),
    }
    redis.hset(key, mapping=fields)


@contextmanager
def serving(application: Any, port: int = 0) -> Iterator[str]:
    """Serve an ASGI application, on a free port if none is given; yields its URL."""
    server = PageServer(application, host="127.0.0.1", port=port, log_level="error")
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, what="the page's server")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serving_wsgi(application: Any) -> Iterator[str]:
    """Serve a WSGI application on a free port; yields its URL."""
    server = make_server("127.0.0.1", 0, application, server_class=ThreadingServer, handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """A thread for each request, as Flask's server has."""


class Quiet(WSGIRequestHandler):
    """Writes no line for a request."""

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def _do_nothing(*_: object) -> None:
    """Be a task that nobody runs."""

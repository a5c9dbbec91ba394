"""Runs canvas shapes in real workers, and checks what their batches counted."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery import Celery, Signature, current_app

from celery_batches_notify import Batch, Batches
from tests.projects.canvas_tasks import call, declare_tasks, named_tasks
from tests.support.canvas_shapes import Shape
from tests.support.servers import running_worker, wait_until

ALL_SECONDS = 200.0
WAYS = ["called in a block", "handed to add"]
INSIDE, BY_A_MEMBER = "called in a block inside another batch's", "called by a member"
OTHER = ("the other batch", INSIDE)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The world that shapes run in: an app, a worker's pool, and whether the result backend counts chords."""

    app: Celery
    pool: str
    counts_chords: bool

    @property
    def tasks(self) -> SimpleNamespace:
        """The argument of `Shape.build`."""
        return named_tasks(self.app)

    def runs(self, shape: Shape) -> bool:
        return (self.pool == "prefork" or not shape.prefork_only) and (
            self.counts_chords or not shape.redis_only
        )

    def total(self, shape: Shape, way: str) -> int:
        """Return the number of members, including a member that calls the shape."""
        return shape.total + (0 if self.counts_chords else shape.chords) + (way == BY_A_MEMBER)


@contextmanager
def canvas_setting(url: str, pool: str, backend: str, *options: str, **environment: str) -> Iterator[Setting]:
    """Run a worker for canvases, with separate queues."""
    queue = f"canvas-{uuid4().hex}"
    before = current_app._get_current_object()
    app = Celery("canvas", broker=url)  # current, because Celery 5.5 takes a chain's app from there
    app.conf.update(result_backend=backend, task_default_queue=queue, batches_backend_url=url)
    Batches(app)
    declare_tasks(app)
    env = {"BATCHES_TEST_BACKEND": backend, "BATCHES_TEST_QUEUE": queue, **environment}
    with running_worker(url, pool, "-Q", f"{queue},{queue}-2", *options, app="canvas_proj", **env):
        yield Setting(app=app, pool=pool, counts_chords=backend.startswith("redis"))
    gc.collect()  # unused results unsubscribe from the backend while it is still there
    if backend.startswith("redis"):
        app.backend.result_consumer.stop()
        app.backend.client.close()
    app.close()
    before.set_current()
    app._batches_extension.engine.store.client.close()


def start(setting: Setting, shape: Shape, way: str) -> Batch:
    """Call a shape in a batch."""
    built = shape.build(setting.tasks)
    batch = Batch(f"{shape.name}, {way}", app=setting.app)
    if way == BY_A_MEMBER:
        batch.add(setting.tasks.calls.s(shape.name))
    elif way == "handed to add" and isinstance(built, Signature):
        batch.add(built)
    else:
        with batch:
            call(built)
    return batch


def stored(batch: Batch) -> dict[str, str]:
    """Return the batch's hash."""
    store = batch._engine.store
    return {k.decode(): v.decode() for k, v in store.client.hgetall(store.keys.batch(batch.bid)).items()}


Runs = dict[tuple[str, str], Batch]


def run_all(setting: Setting, shapes: list[Shape], ways: list[str] = WAYS) -> Runs:
    """Run all shapes at once, each in these ways, until every batch has finished or the time is up."""
    shapes = [shape for shape in shapes if setting.runs(shape)]
    batches = {
        (shape.name, way): start(setting, shape, way) for shape in shapes for way in ways if way != INSIDE
    }
    if INSIDE in ways:
        with Batch("has blocks of others inside its own", app=setting.app) as other:
            setting.tasks.t.delay()
            batches |= {(shape.name, INSIDE): start(setting, shape, INSIDE) for shape in shapes}
        batches[OTHER] = other
    left = list(batches.values())

    def finished() -> bool:
        left[:] = [batch for batch in left if "finish_at" not in stored(batch)]
        return not left

    try:
        wait_until(finished, seconds=ALL_SECONDS)
    except pytest.fail.Exception:
        return batches  # the test of each shape fails
    # Messages that were under way when the last batch finished have been received once these have been.
    for queue in (setting.tasks.app.conf.task_default_queue, setting.tasks.q2):
        batch = Batch(app=setting.app)
        batch.add(*(setting.tasks.t.s().set(queue=queue) for _ in range(4)))
        batch.join(timeout=30)
    return batches


def check(batch: Batch, *, total: int, dead: int) -> None:
    """Assert that a batch ended with these counts, its events in order, and nothing left over."""
    held = stored(batch)
    counted = {name: int(held[name]) for name in ("total", "succeeded", "failing", "dead")}
    assert counted == {"total": total, "succeeded": total - dead, "failing": 0, "dead": dead}
    assert "finish_at" in held
    # The last report that changed anything ended the batch, so no event fired early.
    assert held["finish_at"] == max(held["reported_at"], held["sealed_at"])
    assert ("success_at" in held) == (dead == 0)
    order = [int(held[f"{event}_at"]) for event in ("complete", "finish", "success") if f"{event}_at" in held]
    assert order == sorted(order)
    store = batch._engine.store
    assert store.client.strlen(store.keys.part(batch.bid, "members")) == total * 16

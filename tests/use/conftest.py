"""Two apps that share a store, with brokers in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, Task
from redis import Redis

from celery_batches_notify import Batches
from celery_batches_notify.producer import chunk
from tests.support.servers import PATIENT, close_store

pytest.register_assert_rewrite(
    "use_example", "use_items", "use_machine", "use_stage", "use_tasks", "use_watch"
)

from tests.use.use_items import CHUNK  # noqa: E402
from tests.use.use_watch import Around  # noqa: E402


class WithNumbers(Task):
    """A task whose first argument is its id, so that the calls of a `map` have known ids too."""

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **more: Any
    ) -> Any:
        if args and isinstance(args[0], str):
            args, task_id = args[1:], args[0]
        return super().apply_async(args, kwargs, task_id=task_id, **more)


@pytest.fixture
def surroundings(server_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Around]:
    monkeypatch.setattr(chunk, "CHUNK", CHUNK)
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)  # thousands of justified warnings
    client = Redis.from_url(server_url)
    running: list[Any] = []
    apps = {name: make_app(name, server_url, running) for name in ("a", "b")}
    around = Around(apps, client, running)
    around.forget()
    yield around
    for app in apps.values():
        close_store(app)
        app.close()
    client.close()


def make_app(name: str, server_url: str, running: list[Any]) -> Celery:
    app = Celery(name, broker="memory://", backend=None, set_as_current=False)
    queue = f"{name}{uuid4().hex}"
    app.conf.update(batches_backend_url=server_url, batches_backend_options=PATIENT, task_default_queue=queue)
    Batches(app)

    @app.task(name="work", base=WithNumbers, bind=True, shared=False)
    def work(self: Task, *_: object) -> None:
        running[0].run_body(name, self)

    @app.task(name="told", bind=True, shared=False)
    def told(self: Task) -> None:
        running[0].watch.ran.append((self.request.id, getattr(self.request, "batches", None)))

    return app

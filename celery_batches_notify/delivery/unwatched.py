"""Publishing without the result backend.

Whenever Celery publishes, it asks the result backend to watch for the result. With Redis that is a
subscription; while that Redis is away it takes 19 s to fail, and nothing is published. The process that
publishes a callback never waits for its result, and a later `get()` subscribes by itself. So callbacks are
published as Celery publishes in a pool's child: without asking the backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from celery import Celery

_unwatched: ContextVar[bool] = ContextVar("celery_batches_notify_unwatched", default=False)


@contextmanager
def unwatched(app: Celery) -> Iterator[None]:
    """Publish the calls of this context without asking the app's result backend; others still ask it."""
    with suppress(Exception):  # a backend that cannot be created fails where it is needed
        backend: Any = app.backend
        if not isinstance(backend.on_task_call, _Asked):
            backend.on_task_call = _Asked(backend.on_task_call)
    token = _unwatched.set(True)
    try:
        yield
    finally:
        _unwatched.reset(token)


class _Asked:
    """Replaces a backend's `on_task_call`."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def __call__(self, producer: Any, task_id: str) -> Any:
        """Ask the backend, unless this context publishes callbacks."""
        return {} if _unwatched.get() else self._ask(producer, task_id)  # safety: unwatched

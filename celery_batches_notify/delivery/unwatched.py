"""Publishing without the result backend.

Whenever Celery publishes, it asks the result backend to watch for the result. Over Redis that is a
subscription; while that Redis is away it takes 19 s to fail, and nothing is published. Nobody waits for a
callback's result where it is published, and a later `get()` subscribes by itself. So callbacks leave as all
that a pool's child publishes does: there Celery itself asks no backend.
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
    """Let the calls of this context leave without asking the app's result backend; all others do ask."""
    with suppress(Exception):  # a backend that cannot even be made fails whoever needs it
        backend: Any = app.backend
        if not isinstance(backend.on_task_call, _Asked):
            backend.on_task_call = _Asked(backend.on_task_call)
    token = _unwatched.set(True)
    try:
        yield
    finally:
        _unwatched.reset(token)


class _Asked:
    """Stands where a backend's `on_task_call` stood."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def __call__(self, producer: Any, task_id: str) -> Any:
        """Ask the backend, unless this context publishes callbacks."""
        return {} if _unwatched.get() else self._ask(producer, task_id)  # safety: unwatched

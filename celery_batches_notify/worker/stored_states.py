"""What a running task stores of itself, noted on its way to the result backend (or to none)."""

from __future__ import annotations

from typing import Any
from weakref import ref

from celery import Task

STORED = "batches_stored"


def watch_stored_states(task: Task[..., Any]) -> None:
    """Note on the running request what is stored of it: `Ignore` leaves a task as it stored itself."""
    backend: Any = task.backend
    if "store_result" not in vars(backend):  # Celery makes one per thread, and greenlet
        backend.store_result = _NotingStore(backend, task.app)


class _NotingStore:
    """Stands where one backend's `store_result` stood; no reference keeps the backend alive."""

    def __init__(self, backend: Any, app: Any) -> None:
        self._backend = ref(backend)
        self._store_result = type(backend).store_result
        self._app = app

    def __call__(self, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        task = self._app.current_worker_task
        if task is not None and task.request.id == task_id:
            setattr(task.request, STORED, (state, result))
        return self._store_result(self._backend(), task_id, result, state, *args, **kwargs)

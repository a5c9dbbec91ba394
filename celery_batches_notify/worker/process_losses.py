"""Callbacks whose process is lost: the outbox sends them again, and counts, as the broker does not.

A task with `acks_late` and `reject_on_worker_lost` goes back to the broker whenever it kills its process,
without end, and no Celery signal reports it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from billiard.exceptions import WorkerLostError

from celery_batches_notify.worker.outcomes import runs_again


def watch_process(request: Any, note_loss: Callable[[Any], None]) -> None:
    """Call `note_loss(request)` when Celery would give a lost callback's message back to the broker."""
    received = weakref.ref(request)  # a request that refers to itself would not be freed when it ends

    def on_failure(exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        request = received()
        if request is None:
            return None
        if _goes_back(request, exc_info.exception):  # safety: process-killer
            request.acknowledge()  # so it does not go back
            note_loss(request)
        return type(request).on_failure(request, exc_info, *args, **kwargs)

    request.on_failure = on_failure


def _goes_back(request: Any, raised: Any) -> bool:
    """Return whether Celery would give the message back to the broker after this failure."""
    task, exc = request.task, getattr(raised, "exc", raised)  # it may be wrapped with its traceback
    if not task.acks_late or getattr(task, "retry_on_worker_lost", False):
        return False
    exited = isinstance(exc, (SystemExit, KeyboardInterrupt)) and not (
        getattr(request, "_already_revoked", False) or getattr(request, "_already_cancelled", False)
    )
    lost = exited or isinstance(exc, WorkerLostError)
    return bool(lost and task.reject_on_worker_lost) or runs_again(task, exc)

"""Callbacks whose process is lost: the outbox sends them again, because it counts, and the broker does not.

A task that is acknowledged late and rejected on worker loss goes back to the broker when it kills its
process, as often as it does that, and no Celery signal reports it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from billiard.exceptions import WorkerLostError

from celery_batches_notify.worker.outcomes import runs_again


def watch_process(request: Any, note_loss: Callable[[Any], None]) -> None:
    """Call `note_loss(request)` where Celery would hand the message of a lost callback back to the broker."""
    held = weakref.ref(request)  # a request that held itself would stay with what this worker holds

    def on_failure(exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        request = held()
        if request is None:
            return None
        if _goes_back(request, exc_info.exception):  # safety: process-killer
            request.acknowledge()  # so it does not
            note_loss(request)
        return type(request).on_failure(request, exc_info, *args, **kwargs)

    request.on_failure = on_failure


def _goes_back(request: Any, raised: Any) -> bool:
    """Whether Celery, as it handles this failure, gives the message back."""
    task, exc = request.task, getattr(raised, "exc", raised)  # it may be wrapped with its traceback
    if not task.acks_late or getattr(task, "retry_on_worker_lost", False):
        return False
    exited = isinstance(exc, (SystemExit, KeyboardInterrupt)) and not (
        getattr(request, "_already_revoked", False) or getattr(request, "_already_cancelled", False)
    )
    lost = exited or isinstance(exc, WorkerLostError)
    return bool(lost and task.reject_on_worker_lost) or runs_again(task, exc)

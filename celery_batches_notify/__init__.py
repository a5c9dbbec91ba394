"""Batches for Celery: watch a set of tasks together, and get notified when all have run or succeeded.

Names are imported at their first use, because pytest and the `celery` command load parts of this package in
projects that may never make a batch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_batches_notify.batch import Batch, current_batch
    from celery_batches_notify.doctor.reconcile import Repairs
    from celery_batches_notify.errors import (
        BatchCancelled,
        BatchesError,
        BatchSealed,
        BatchTimeout,
        ConfigurationError,
        CorruptBatch,
        EnqueueError,
        InvalidBid,
        InvalidCall,
        InvalidCallback,
        InvalidState,
        NoSuchBatch,
        NotAMember,
        NotificationFailed,
        SchemaTooNew,
        StoreUnavailable,
        UnserialisableCall,
        WouldDeadlock,
    )
    from celery_batches_notify.extension import Batches
    from celery_batches_notify.messages.block import outside_batch
    from celery_batches_notify.model import BatchStatus, MemberResult, Progress

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "BatchCancelled",
    "BatchSealed",
    "BatchStatus",
    "BatchTimeout",
    "Batches",
    "BatchesError",
    "ConfigurationError",
    "CorruptBatch",
    "EnqueueError",
    "InvalidBid",
    "InvalidCall",
    "InvalidCallback",
    "InvalidState",
    "MemberResult",
    "NoSuchBatch",
    "NotAMember",
    "NotificationFailed",
    "Progress",
    "Repairs",
    "SchemaTooNew",
    "StoreUnavailable",
    "UnserialisableCall",
    "WouldDeadlock",
    "current_batch",
    "outside_batch",
]

_HOMES = {
    **dict.fromkeys(__all__, "errors"),
    **dict.fromkeys(("Batch", "current_batch"), "batch"),
    "outside_batch": "messages.block",
    **dict.fromkeys(("BatchStatus", "MemberResult", "Progress"), "model"),
    "Batches": "extension",
    "Repairs": "doctor.reconcile",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

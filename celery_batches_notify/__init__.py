"""Batches for Celery: watch a set of tasks together, and be told when all of them have run or succeeded."""

from celery_batches_notify.batch import Batch, current_batch, outside_batch
from celery_batches_notify.errors import (
    BatchCancelled,
    BatchesError,
    BatchSealed,
    BatchTimeout,
    ConfigurationError,
    EnqueueError,
    InvalidBid,
    InvalidCallback,
    NoSuchBatch,
    NotificationFailed,
    SchemaTooNew,
    StoreUnavailable,
    UnserialisableCall,
    WouldDeadlock,
)
from celery_batches_notify.extension import Batches
from celery_batches_notify.model import BatchStatus, Progress

__all__ = [
    "Batch",
    "BatchCancelled",
    "BatchSealed",
    "BatchStatus",
    "BatchTimeout",
    "Batches",
    "BatchesError",
    "ConfigurationError",
    "EnqueueError",
    "InvalidBid",
    "InvalidCallback",
    "NoSuchBatch",
    "NotificationFailed",
    "Progress",
    "SchemaTooNew",
    "StoreUnavailable",
    "UnserialisableCall",
    "WouldDeadlock",
    "current_batch",
    "outside_batch",
]

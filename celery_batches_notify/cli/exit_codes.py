"""The exit codes of commands, and the code of each error."""

from __future__ import annotations

from enum import IntEnum

from kombu.exceptions import OperationalError

from celery_batches_notify.errors import (
    BatchTimeout,
    ConfigurationError,
    CorruptBatch,
    EnqueueError,
    InvalidBid,
    InvalidCall,
    InvalidCallback,
    InvalidState,
    NoSuchBatch,
    SchemaTooNew,
    StoreUnavailable,
)


class ExitCode(IntEnum):
    """How a command ended. `celery` itself uses 69 if no answer came."""

    DONE = 0
    OTHERWISE = 1
    USAGE = 2
    TIMED_OUT = 3
    NO_SUCH_BATCH = 4
    AWAY = 69
    INTERRUPTED = 130


_CODES: tuple[tuple[tuple[type[Exception], ...], ExitCode], ...] = (
    ((ConfigurationError, InvalidBid, InvalidCall, InvalidCallback, InvalidState), ExitCode.USAGE),
    ((BatchTimeout,), ExitCode.TIMED_OUT),
    ((NoSuchBatch, CorruptBatch, SchemaTooNew), ExitCode.NO_SUCH_BATCH),
    ((StoreUnavailable, EnqueueError, OperationalError), ExitCode.AWAY),
)


def code_of(exc: Exception) -> ExitCode:
    """Return the exit code of an error."""
    return next((code for kinds, code in _CODES if isinstance(exc, kinds)), ExitCode.OTHERWISE)

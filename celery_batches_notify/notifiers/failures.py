"""Restrict the failures of a batch to the part that a receiver may see."""

from __future__ import annotations

from dataclasses import replace

from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.references import is_reference

LEVELS = ("none", "counts", "messages", "full")
FULL = LEVELS[-1]


def check_failures(level: object) -> None:
    """Raise `ValueError` unless this is one of `LEVELS`."""
    if level not in LEVELS and not is_reference(level):
        raise ValueError(f"failures must be one of {', '.join(LEVELS)}, got {level!r}")


def restrict(notification: Notification, level: str) -> Notification:
    """Return a notification with the part of the failures that its receiver may see.

    Args:
        notification: The whole notification.
        level: `none`: how many tasks failed. `counts`: also the errors and their tasks. `messages`: also the
            messages. `full`: also backtraces, attempts and task ids.
    """
    if level == FULL:  # safety: failures-level
        return notification
    hidden = {"backtrace": None} if level == "messages" else {"backtrace": None, "error_message": ""}
    seen = () if level == "none" else notification.status.failure_info
    failures = tuple(replace(failure, **hidden) for failure in seen)
    return replace(notification, status=replace(notification.status, failure_info=failures))

"""For tests of users' code: batches that run to their end in the test's own process, and an outbox."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_batches_notify.testing.draining import drain
    from celery_batches_notify.testing.isolation import sandbox
    from celery_batches_notify.testing.outbox import Outbox, Sent, assert_notified, record_notifications

__all__ = ["Outbox", "Sent", "assert_notified", "drain", "record_notifications", "sandbox"]

_HOMES = {**dict.fromkeys(__all__, "outbox"), "drain": "draining", "sandbox": "isolation"}


def __getattr__(name: str) -> object:
    # Every pytest run loads the plugin, and so this file, which therefore imports Celery only when needed.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

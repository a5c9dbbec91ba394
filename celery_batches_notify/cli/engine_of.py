"""The engine of the app that a command was given."""

from __future__ import annotations

from celery import Celery

from celery_batches_notify.engine import Engine, find_extension


def engine_of(app: Celery) -> Engine:
    """Return the app's engine. Raises `ConfigurationError` if it uses no batches or a setting is wrong."""
    return find_extension(app, hint=", and name that app, as in celery -A proj batch").engine

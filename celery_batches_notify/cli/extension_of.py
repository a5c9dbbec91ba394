"""The batches of the app that a command was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery import Celery

from celery_batches_notify.engine import ENGINE
from celery_batches_notify.errors import ConfigurationError

if TYPE_CHECKING:
    from celery_batches_notify.extension import Batches


def extension_of(app: Celery) -> Batches:
    """Return the app's extension.

    Raises:
        ConfigurationError: Nobody called `Batches(app)`.
    """
    extension: Batches | None = getattr(app, ENGINE, None)
    if extension is None:
        raise ConfigurationError(
            "this app has no batches: name yours, as in celery -A proj batch, and call Batches(app) beside it"
        )
    return extension

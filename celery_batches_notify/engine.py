"""What batches of one app work with, and how they find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from celery import Celery, current_app

from celery_batches_notify.delivery.publisher import Publisher
from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.messages.sender import Sender
from celery_batches_notify.notifiers.registry import Registry
from celery_batches_notify.recovery.resend import Resender
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.store import Store

ENGINE = "_batches_engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What the extension builds once per app."""

    app: Celery
    settings: Settings
    store: Store
    registry: Registry
    publisher: Publisher
    sender: Sender
    resender: Resender


def find_engine(app: Celery | None) -> Engine:
    """Return what the app's batches work with; of the current app if none is given.

    Raises:
        ConfigurationError: Nobody called `Batches(app)`, or a setting is wrong.
    """
    app = app or cast("Any", current_app)._get_current_object()
    extension = getattr(app, ENGINE, None)
    if extension is None:
        raise ConfigurationError(
            f"{app!r} has no batches: call Batches(app) once, beside the app; where that is done, give "
            "app=, or call app.set_default(): Celery's current app is another one in each thread"
        )
    engine: Engine = extension.engine
    return engine

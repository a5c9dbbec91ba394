"""Everything that is built for the batches of one app, and how to find it from the app."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from celery import Celery, current_app

from celery_batches_notify.delivery.attempt import Attempts
from celery_batches_notify.delivery.outgoing import Outgoing
from celery_batches_notify.delivery.publisher import Publisher
from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.messages.sender import Sender
from celery_batches_notify.notifiers.registry import Registry
from celery_batches_notify.recovery.resend import Resender
from celery_batches_notify.recovery.sweeper import Sweeper
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.store import Store
from celery_batches_notify.worker.away_log import AwayLog
from celery_batches_notify.worker.cancellation import Cancellation
from celery_batches_notify.worker.heartbeat import Heartbeat
from celery_batches_notify.worker.reporter import Reporter
from celery_batches_notify.worker.spool_replay import Replay

if TYPE_CHECKING:
    from celery_batches_notify.extension import Batches

EXTENSION = "_batches_extension"
GIVE_APP = "; if that is done, give app=, or call app.set_default(): each thread has a current app of its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Everything that the extension builds once per app."""

    app: Celery
    settings: Settings
    store: Store
    registry: Registry
    sender: Sender
    publisher: Publisher
    outgoing: Outgoing
    attempts: Attempts
    resender: Resender
    reporter: Reporter
    replay: Replay
    sweeper: Sweeper
    cancellation: Cancellation
    heartbeat: Heartbeat
    away: AwayLog


def find_engine(app: Celery | None) -> Engine:
    """Return the engine of an app. Raises as `find_extension` does, and if a setting is wrong."""
    return find_extension(app).engine


def find_extension(app: Celery | None, hint: str = GIVE_APP) -> Batches:
    """Return the extension of an app, or of the current app.

    Args:
        app: The app; None stands for Celery's current one.
        hint: Added to the error: what else the caller can do.

    Raises:
        ConfigurationError: Nobody called `Batches(app)`.
    """
    app = app or cast("Any", current_app)._get_current_object()
    extension: Batches | None = getattr(app, EXTENSION, None)
    if extension is None:
        raise ConfigurationError(f"{app!r} has no batches: call Batches(app) once, beside the app{hint}")
    return extension

"""`Batches(app)` builds everything once per app, and connects it to Celery."""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import Celery, bootsteps, signals

from celery_batches_notify.delivery.attempt import Attempts, register_deliver_task
from celery_batches_notify.delivery.outgoing import Outgoing
from celery_batches_notify.delivery.publisher import Publisher
from celery_batches_notify.doctor.broker_checks import check_broker
from celery_batches_notify.doctor.other_app import check_other_app
from celery_batches_notify.doctor.still_batches import StillBatches
from celery_batches_notify.engine import EXTENSION, Engine, find_extension
from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.log_lines import log_fields
from celery_batches_notify.masking import keep_secrets_out_of_reports
from celery_batches_notify.messages.block import watch_results
from celery_batches_notify.messages.other_apps import find_wrapped_sender, refuse_calls_of_other_apps
from celery_batches_notify.messages.sender import Sender
from celery_batches_notify.notifiers.registry import Registry
from celery_batches_notify.recovery.lost_workers import LostWorkers
from celery_batches_notify.recovery.resend import Resender
from celery_batches_notify.recovery.sweeper import Sweeper
from celery_batches_notify.settings import Settings, find_unknown_settings
from celery_batches_notify.store.client import check_options
from celery_batches_notify.store.server_checks import check_store
from celery_batches_notify.store.store import Store
from celery_batches_notify.store_url import show_address
from celery_batches_notify.versions import check_versions, check_versions_of_worker
from celery_batches_notify.worker.away_log import AwayLog
from celery_batches_notify.worker.cancellation import Cancellation
from celery_batches_notify.worker.heartbeat import Heartbeat
from celery_batches_notify.worker.receivers import Receivers
from celery_batches_notify.worker.reporter import Reporter
from celery_batches_notify.worker.spool import spool_of
from celery_batches_notify.worker.spool_replay import Replay

FLUSH_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Batches:
    """Give a Celery app batches. Call it once, beside the app, in producers and workers. Safe to repeat.

    Args:
        app: The app. It may be configured later, because its settings are read at the first batch or when the
            worker starts. If it is configured already, they are checked at once.

    Raises:
        ConfigurationError: A setting is wrong, no Redis can hold the batches, or the installed Celery, kombu
            or redis-py does not fit.
    """

    def __new__(cls, app: Celery[Any]) -> Batches:
        """Return the extension that the app has already, if any."""
        if not isinstance(app, Celery):
            raise ConfigurationError(
                f"Batches takes a Celery app, got {type(app).__name__}: call Batches(celery_app), the object "
                "that its tasks are declared with"
            )
        return getattr(app, EXTENSION, None) or super().__new__(cls)

    def __init__(self, app: Celery[Any]) -> None:
        if getattr(app, EXTENSION, None) is self:
            return
        check_versions()  # safety: versions-fit
        app = getattr(app, "_get_current_object", lambda: app)()  # `celery.current_app` is a proxy
        self.app = app
        self._lock = threading.RLock()
        self._built: Engine | None = None
        self._sender = Sender(app, find_wrapped_sender(app))
        if getattr(app, "configured", False):
            self.engine  # noqa: B018 - raises if a setting is wrong, before the app is changed
        setattr(app, EXTENSION, self)
        app.amqp.send_task_message = self._sender  # type: ignore[misc]
        app.send_task = self._sender.calls  # type: ignore[method-assign]
        refuse_calls_of_other_apps()
        watch_results(app)
        keep_secrets_out_of_reports(app)
        register_deliver_task(app, lambda: self.engine.attempts)
        self.receivers = Receivers(
            app, lambda: self.engine.reporter, lambda: self.engine.cancellation, lambda: self.engine.heartbeat
        )
        self.receivers.connect()
        self._sender.received = self.receivers.received
        self._sender.heartbeat = lambda: self.engine.heartbeat
        app.steps["worker"].add(BatchesStep)

    @property
    def engine(self) -> Engine:
        """Everything that is built for the app, at first use. Raises `ConfigurationError`."""
        if (built := self._built) is not None:  # without the lock, which a fork could inherit locked
            return built
        with self._lock:
            if self._built is None:
                self._built = build_engine(self.app, self._sender)
            return self._built

    def reset(self) -> None:
        """Close everything; the next use builds it again, from the configuration at that time.

        Tests use it to point an app at other servers. Earlier batches keep the engine they were made with.
        """
        with self._lock:
            engine, self._built = self._built, None
        if engine is not None:
            engine.outgoing.flush(FLUSH_SECONDS)
            engine.outgoing.close()
            engine.publisher.close()
            engine.store.close()


def build_engine(app: Celery, sender: Sender) -> Engine:
    """Build everything from the app's settings, without connecting to anything."""
    settings = Settings.from_app(app)
    check_options(settings)
    registry = Registry(settings)
    _log_findings(app, settings, registry)
    store = Store(settings)
    publisher = Publisher(app, store, settings)
    outgoing = Outgoing(publisher)
    resender = Resender(app, store, sender)
    away = AwayLog()
    heartbeat = Heartbeat(store, settings, away)
    lost = LostWorkers(store, publisher, resender, heartbeat, settings)
    spool = spool_of(settings)
    reporter = Reporter(store, outgoing, spool, settings.report_timeout.total_seconds())
    return Engine(
        app=app,
        settings=settings,
        store=store,
        registry=registry,
        sender=sender,
        publisher=publisher,
        outgoing=outgoing,
        attempts=Attempts(store, settings, registry, publisher),
        resender=resender,
        reporter=reporter,
        replay=Replay(spool, reporter),
        sweeper=Sweeper(store, publisher, resender, lost, settings, away),
        cancellation=Cancellation(store, away),
        heartbeat=heartbeat,
        away=away,
    )


class BatchesStep(bootsteps.StartStopStep):
    """Checks the settings before a worker starts, and runs the threads of its main process."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        check_versions_of_worker()
        extension = find_extension(parent.app)
        extension.receivers.worker_limits = (parent.time_limit, parent.soft_time_limit)
        self.engine, self.received = extension.engine, extension.receivers.received
        self.still_batches = StillBatches(self.engine)
        self.engine.heartbeat.name(parent.hostname)  # before the pool forks
        signals.worker_shutdown.connect(
            self.on_worker_shutdown,
            sender=parent,
            weak=False,
            dispatch_uid=f"celery_batches_notify.lease.{id(parent.app)}",
        )
        uid = f"celery_batches_notify.flush.{id(parent.app)}"
        signals.worker_process_shutdown.connect(self.on_worker_process_shutdown, weak=False, dispatch_uid=uid)

    def start(self, parent: Any) -> None:
        """Warn about unsafe settings of the store and the broker, then start all threads."""
        warn_about_surroundings(parent.app, self.engine.store)
        self.engine.cancellation.start(self.received, parent.pool)
        self.engine.heartbeat.start()
        self.engine.sweeper.start()
        self.engine.replay.start()
        self.still_batches.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Publish pending callbacks, and stop all threads but the heartbeat."""
        self.engine.outgoing.flush(FLUSH_SECONDS)
        self.engine.sweeper.stop()
        self.engine.replay.stop()
        self.still_batches.stop()
        self.engine.cancellation.stop()

    def terminate(self, parent: Any) -> None:
        """Stop everything; running members count as lost when the lease ends."""
        self.stop(parent)
        self.engine.heartbeat.stop()

    def on_worker_shutdown(self, **_: Any) -> None:
        """End the lease, because the pool has finished its tasks."""
        self.engine.heartbeat.stop()

    def on_worker_process_shutdown(self, **_: Any) -> None:
        """Publish pending callbacks before the pool's process exits."""
        self.engine.outgoing.flush(FLUSH_SECONDS)


def warn_about_surroundings(app: Celery, store: Store) -> None:
    """Log a warning for each setting of the store or the broker that may lose members or batches."""
    for finding in (*check_store(store), *check_broker(app), *check_other_app(app, store)):
        logger.warning("batches: %s", finding.words, extra=log_fields(subject=finding.subject))


def _log_findings(app: Celery, settings: Settings, registry: Registry) -> None:
    where, source = show_address(settings.backend_url), settings.backend_source
    if source == "broker_url":
        logger.warning(
            "batches_backend_url is not set: batches live beside the broker's queues in %s; set it, to the "
            "same URL if you like, to silence this warning",
            where,
        )
    else:
        logger.info("batches live in %s (from %s)", where, source)
    for unknown in find_unknown_settings(app):
        logger.warning("batches: unknown setting %s", unknown)
    for unknown in registry.find_unknown_keys():
        logger.warning("batches: batches_notifications: unknown notifier %s", unknown)

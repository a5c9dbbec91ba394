"""The sandbox: an app that uses only a broker in memory and a store for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from celery import Celery

from celery_batches_notify.batch import Batch
from celery_batches_notify.engine import find_extension
from celery_batches_notify.extension import Batches

_BROKER = "memory://"
_RESULTS = "cache+memory://"
_ABSENT = object()


@contextmanager
def sandbox(app: Celery, url: str) -> Iterator[Celery]:
    """Let an app use a broker in memory and this store inside the block; then restore its settings.

    If the app has a result backend, that is in memory too. The end of the block deletes its messages and
    batches. Others may use the same store, because the batches have a prefix of their own.

    Args:
        app: An app with `Batches`.
        url: The redis:// URL of the store.

    Raises:
        ConfigurationError: `Batches(app)` was not called.
    """
    hint = ", or name another app (with pytest: let a fixture batches_app in conftest.py return it)"
    extension = find_extension(app, hint)
    settings: dict[str, Any] = {
        **dict.fromkeys(("broker_url", "broker_read_url", "broker_write_url"), _BROKER),
        "broker_transport": None,
        "broker_transport_options": {},
        "broker_use_ssl": None,
        "batches_backend_url": url,
        "batches_backend_options": {},
        "batches_prefix": f"batches-test-{uuid4().hex}",
    }
    if app.conf.get("result_backend"):
        settings["result_backend"] = _RESULTS
    with _configured(app, settings):
        _start_anew(app, extension)
        try:
            _purge(app)
            yield app
        finally:
            for batch in Batch.all(app=app):
                batch.delete()
            extension.engine.store.drop_totals()
            _purge(app)
            _start_anew(app, extension)
    _start_anew(app, extension)


@contextmanager
def _configured(app: Celery, settings: dict[str, Any]) -> Iterator[None]:
    app.conf.get("broker_url")  # loads pending settings
    changes: Any = app.conf.changes
    before = {name: changes.get(name, _ABSENT) for name in settings}
    changes.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is _ABSENT:
                changes.pop(name, None)
            else:
                changes[name] = value


def _start_anew(app: Celery, extension: Batches) -> None:
    """Make the next use of the app read its configuration again."""
    extension.reset()
    app._pool = app.amqp._producer_pool = None  # type: ignore[attr-defined]
    app._backend_cache = None  # type: ignore[attr-defined]
    app._local.__dict__.pop("backend", None)  # type: ignore[attr-defined]


def _purge(app: Celery) -> None:
    """Empty the queues, because the broker in memory lives as long as the process."""
    with app.connection_for_write() as connection, connection.channel() as channel:
        for queue in app.amqp.queues.values():
            bound = queue(channel)
            bound.declare()
            bound.purge()

"""A start-up check for two apps that share a store and a prefix, so that each heals the other's batches."""

from __future__ import annotations

import re

from celery import Celery

from celery_batches_notify.errors import StoreUnavailable
from celery_batches_notify.store.findings import Finding
from celery_batches_notify.store.store import Store


def check_other_app(app: Celery, store: Store) -> list[Finding]:
    """Record the app of a worker that starts, and compare it with the app of the worker before."""
    connection = app.connection_for_write()
    if connection.transport_cls == "memory":  # each process has a broker of its own
        return []
    broker = re.sub("//.*@", "//", connection.as_uri())  # the same for every user
    mine = f"{broker}, queue {app.conf.task_default_queue}"
    try:
        before = store.note_app(mine)
    except StoreUnavailable:  # `check_store` reports it
        return []
    if before in ("", mine):  # safety: own-prefix
        return []
    words = (
        f"the last worker that started with this store and batches_prefix {store.settings.prefix!r} had "
        f"another broker or default queue ({before}; this one: {mine}): if these are two apps, give each a "
        "batches_prefix of its own, because each sends the other's callbacks to its own broker"
    )
    return [Finding(severity="warning", subject="prefix", words=words)]

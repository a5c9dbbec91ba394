"""Start-up check of the directory where outcomes wait while the store is away."""

from __future__ import annotations

from collections.abc import Iterator

from celery_batches_notify.settings import Settings
from celery_batches_notify.store.findings import Finding
from celery_batches_notify.worker.spool import spool_of


def check_spool(settings: Settings) -> Iterator[Finding]:
    """Check whether this process could keep outcomes on this host's disk."""
    try:
        spool_of(settings).check()
    except OSError as exc:
        words = f"a worker here, with this user, would lose outcomes while the store is away: {exc.strerror}"
        yield Finding(severity="warning", subject="spool", words=words)

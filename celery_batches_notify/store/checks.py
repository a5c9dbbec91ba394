"""Start-up checks: what of the store's server would lose batches, or keep them from working at all."""

from __future__ import annotations

from celery_batches_notify.store.findings import Finding
from celery_batches_notify.store.store import Store


def check_store(store: Store) -> list[Finding]:
    """Look at the server, and at what its user may do; changes nothing and never raises for a store that is away."""
    return []

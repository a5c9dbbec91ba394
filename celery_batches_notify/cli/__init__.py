"""`celery -A proj batch …`: every command parses, makes one call, and prints. Light to import.

`commands/` declares them, grouped by reading, changing and tending batches.
"""

from __future__ import annotations

from celery_batches_notify.cli.command import batch
from celery_batches_notify.cli.commands import changing, reading, tending

__all__ = ["batch", "changing", "reading", "tending"]

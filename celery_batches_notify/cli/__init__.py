"""`celery -A proj batch …`: every command parses, makes one call, and prints. Light to import.

`commands/` declares them, grouped by reading, changing and tending batches; `group` is what they are declared
with, and runs them. Most other modules do the work of one command, and are imported when it runs.
"""

from __future__ import annotations

from celery_batches_notify.cli.commands import changing, reading, tending
from celery_batches_notify.cli.group import batch

__all__ = ["batch", "changing", "reading", "tending"]

"""Notes what users do to batches by hand: a line in the log, and the last 100 notes in the batch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from secrets import token_hex

from kombu.utils import json

from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import BatchesError
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.text import one_line

FIELD_CHARACTERS = 100

logger = logging.getLogger(__name__)


def note_action(
    engine: Engine, bid: str, action: str, user: str, count: int, fields: Mapping[str, str] | None = None
) -> None:
    """Log an action on a batch, and store it with the batch if the store lets us.

    Args:
        engine: The app's.
        bid: The batch.
        action: Its name, such as `retry`.
        user: The user's name.
        count: How many members it concerned.
        fields: More about it, such as the group of failures.
    """
    user = one_line(user, FIELD_CHARACTERS) or "somebody"
    clean = {name: one_line(value, FIELD_CHARACTERS) for name, value in (fields or {}).items()}
    BatchLog(logger, bid=bid, count=count).info("%s by %s: %d %s", action, user, count, clean or "")
    note = json.dumps({"action": action, "user": user, "count": count, **clean, "id": token_hex(6)})
    with suppress(BatchesError):  # the batch was deleted, or we may only read the store
        engine.store.note_action(bid, note)

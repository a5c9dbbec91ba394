"""Log lines about a batch: which one, in the words as well as in the fields."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

PREFIX = "batches_"  # safety: log-prefix


class Fields(TypedDict, total=False):
    """What a log line may be about, beside the batch."""

    event: str
    channel: str
    attempt: int
    delivery: str
    task_id: str
    state: str
    worker: str
    count: int
    refused: int
    codes: Sequence[int]
    subject: str


class BatchLog(logging.LoggerAdapter[logging.Logger]):
    """A logger for lines about one batch: `batch FO6z… 'complete' by email: failed (attempt 1 of 8)`.

    Celery's format shows no fields, so the batch stands in the words too, and so do the event and the channel
    if they are given. The message stays the same for all batches: the logging module fills it in.

    Args:
        logger: The module's logger.
        bid: The batch.
        fields: What else the lines are about.
    """

    def __init__(self, logger: logging.Logger, *, bid: str, **fields: Unpack[Fields]) -> None:
        about = []
        if "event" in fields:
            fields["event"] = str(fields["event"])  # the enumeration's repr is no word for people
            about = [fields["event"], fields.get("channel", "nobody")]
        super().__init__(logger, {PREFIX + "bid": bid, **log_fields(**fields)})
        self._message = "batch %s %r by %s: " if about else "batch %s: "
        self._about = bid, *about

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log one line; `msg` says what happened to the batch."""
        kwargs["extra"] = self.extra
        self.logger.log(level, f"{self._message}{msg}", *self._about, *args, stacklevel=2, **kwargs)


def log_fields(**fields: Unpack[Fields]) -> dict[str, object]:
    """Return the `extra` of a log line: `task_id` becomes `batches_task_id`.

    Without the prefix they collide: `event` is structlog's message, `task_id` is Celery's own.
    """
    return {PREFIX + name: value for name, value in fields.items()}

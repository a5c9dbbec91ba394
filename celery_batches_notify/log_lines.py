"""Log lines about a batch, which name it in the text as well as in the fields."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

PREFIX = "batches_"  # safety: log-prefix


class Fields(TypedDict, total=False):
    """The fields that a log line may have beside the batch."""

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

    Celery's log format hides fields, so the text names the batch too, and also the event and the channel if
    they are given. The message template is the same for all batches; the logging module fills it in.

    Args:
        logger: The module's logger.
        bid: The batch.
        fields: The other fields of the lines.
    """

    def __init__(self, logger: logging.Logger, *, bid: str, **fields: Unpack[Fields]) -> None:
        about = []
        if "event" in fields:
            fields["event"] = str(fields["event"])  # the repr of the enumeration is not for people
            about = [fields["event"], fields.get("channel", "nobody")]
        super().__init__(logger, {PREFIX + "bid": bid, **log_fields(**fields)})
        self._message = "batch %s %r by %s: " if about else "batch %s: "
        self._about = bid, *about

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log one line. `msg` is the sentence without the batch."""
        kwargs["extra"] = self.extra
        self.logger.log(level, f"{self._message}{msg}", *self._about, *args, stacklevel=2, **kwargs)


def log_fields(**fields: Unpack[Fields]) -> dict[str, object]:
    """Return the `extra` of a log line: `task_id` becomes `batches_task_id`.

    The prefix avoids collisions: `event` is structlog's message, and Celery has a `task_id` of its own.
    """
    return {PREFIX + name: value for name, value in fields.items()}

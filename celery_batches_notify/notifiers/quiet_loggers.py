"""Stop other libraries from logging our addresses and bodies, which hold secrets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HTTP_LOGGERS = ("urllib3.connection", "urllib3.connectionpool", "urllib3.response", "urllib3.util.retry")

_lowered: set[str] = set()  # loggers whose level was too high for us to see their warnings
_heard: ContextVar[list[str] | None] = ContextVar("celery_batches_notify_heard", default=None)


class _Filter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        heard = _heard.get()
        if heard is None:  # a message of somebody else: drop it only if it would be dropped without us
            name, _, _ = record.name.rpartition(".")
            return record.name not in _lowered or logging.getLogger(name).isEnabledFor(record.levelno)
        if record.levelno >= logging.WARNING:
            heard.append(record.getMessage())
        return False


_FILTER = _Filter()


@contextmanager
def quiet_loggers(*loggers: str) -> Iterator[list[str]]:
    """Drop what these loggers log inside the block. Other users of the libraries are not affected.

    Yields:
        A list that fills with the dropped messages of level WARNING and above.
    """
    for name in loggers:
        logger = logging.getLogger(name)
        logger.addFilter(_FILTER)  # a repeated call does not add it again
        if logger.level == logging.NOTSET and not logger.isEnabledFor(logging.WARNING):
            _lowered.add(name)
            logger.setLevel(logging.WARNING)
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)

"""What the terminal is told: one line, in which nothing is an escape sequence."""

from __future__ import annotations

from celery_batches_notify.errors import BatchesError
from celery_batches_notify.text import one_line

CHARACTERS = 1_000


def tell(answer: str) -> str:
    """Return what a receiver said as a line that a terminal only shows."""
    return one_line(answer, CHARACTERS)


def tell_error(exc: Exception) -> str:
    """Return an error as such a line; one that is not of our making with its class."""
    words = str(exc) if isinstance(exc, BatchesError) and str(exc) else f"{type(exc).__name__}: {exc}"
    return one_line(words, CHARACTERS)

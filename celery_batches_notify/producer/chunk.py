"""Calls that are enrolled, published and confirmed together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from celery import Celery
from kombu.exceptions import OperationalError

from celery_batches_notify.errors import EnqueueError
from celery_batches_notify.messages.block import Call
from celery_batches_notify.text import one_line

CHUNK = 1000
WHY_AT_MOST = 300


@dataclass(slots=True, kw_only=True)
class Chunk:
    """Calls that are enrolled, published and confirmed together.

    Attributes:
        calls: The calls.
        is_last: Whether these are the last members of the batch.
        first: The index of the first call, or where it was last tried: the reply may have been lost.
        confirmed: Whether the store knows that the messages have left.
    """

    calls: Sequence[Call]
    is_last: bool = False
    first: int | None = None
    confirmed: bool = False


def split_calls(calls: Sequence[Call], *, is_last: bool) -> list[Chunk]:
    """Split calls into chunks; `is_last` says whether they are the last of their batch."""
    chunks = [Chunk(calls=calls[at : at + CHUNK]) for at in range(0, len(calls), CHUNK)]
    if chunks:
        chunks[-1].is_last = is_last
    return chunks


def explain_refusal(app: Celery, bid: str, chunks: Iterable[Chunk], exc: Exception) -> EnqueueError:
    """Return the error that lists which calls of these chunks were sent, and says why the broker refused."""
    calls = [call for chunk in chunks for call in chunk.calls]

    def ids(sent: bool | None) -> list[str]:
        return [call.task_id for call in calls if call.sent is sent]

    return EnqueueError(bid, sent=ids(True), unsent=ids(False), unknown=ids(None), why=_explain(app, exc))


def _explain(app: Celery, exc: Exception) -> str:
    """Name the broker that refused, and its reason, without its password."""
    connection = app.connection_for_write()
    named = isinstance(exc, (OperationalError, OSError))  # their texts say enough
    words = str(exc) if named and str(exc) else f"{type(exc).__name__}: {exc}"
    if connection.password:
        words = words.replace(connection.password, "**")
    return one_line(f"{connection.as_uri()}: {words}", WHY_AT_MOST).rstrip(".: ")

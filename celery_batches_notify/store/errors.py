"""A batch whose keys do not hold what we wrote: told in our words, and apart from a store that is away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import ResponseError

from celery_batches_notify.errors import BatchesError, CorruptBatch, InvalidBid

# What the server says where a key has another type or a field is no number; all else is not the data's fault.
_OF_DATA = re.compile(
    r"WRONGTYPE|attempt to |bad argument|not an integer|must be strings or integers|would overflow"
)
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def is_of_data(exc: object) -> bool:
    """Whether the server refused because of what a key holds."""
    return isinstance(exc, ResponseError) and bool(_OF_DATA.search(str(exc)))


@contextmanager
def type_errors(bid: str) -> Iterator[None]:
    """Raise `CorruptBatch` where the server refuses because of what a key of this batch holds."""
    try:
        yield
    except ResponseError as exc:
        if not is_of_data(exc):
            raise
        raise _corrupt(bid, exc) from exc


@contextmanager
def corrupt_errors(bid: str) -> Iterator[None]:
    """Raise `CorruptBatch` where what was read of this batch makes no sense."""
    try:
        with type_errors(bid):
            yield
    except _UNREADABLE as exc:
        if isinstance(exc, BatchesError) and not isinstance(exc, InvalidBid):
            raise
        raise _corrupt(bid, exc) from exc


def _corrupt(bid: str, exc: Exception) -> CorruptBatch:
    return CorruptBatch(
        f"what the store holds of batch {bid} cannot be read ({type(exc).__name__}: {str(exc)[:200]}): "
        "something else wrote there, or dropped a part; it can only be deleted"
    )

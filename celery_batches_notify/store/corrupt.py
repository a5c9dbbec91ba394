"""A batch whose keys do not hold what we wrote: told in our words, and apart from a store that is away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import ResponseError

from celery_batches_notify.errors import BatchesError, CorruptBatch, InvalidBid

# What the server says where a key has another type or a field is no number; all else is not the data's fault.
_OF_DATA = re.compile(r"WRONGTYPE|attempt to |bad argument|not an integer|must be strings or integers")
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def is_of_data(exc: object) -> bool:
    """Whether the server refused because of what a key holds."""
    return isinstance(exc, ResponseError) and bool(_OF_DATA.search(str(exc)))


@contextmanager
def readable(bid: str) -> Iterator[None]:
    """Raise `CorruptBatch` where what is read of a batch within the block makes no sense."""
    try:
        yield
    except (*_UNREADABLE, ResponseError) as exc:
        known = isinstance(exc, BatchesError) and not isinstance(exc, InvalidBid)
        if known or (isinstance(exc, ResponseError) and not is_of_data(exc)):
            raise
        raise CorruptBatch(
            f"what the store holds of batch {bid} cannot be read ({type(exc).__name__}: {str(exc)[:200]}): "
            "something else wrote there, or dropped a part; it can only be deleted"
        ) from exc

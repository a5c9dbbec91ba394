"""Errors of redis-py turned into ours: a store that is away, or a batch whose data cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    MovedError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celery_batches_notify.errors import BatchesError, CorruptBatch, InvalidBid, StoreUnavailable
from celery_batches_notify.settings import Settings
from celery_batches_notify.store_url import show_address

# The server's errors for a key of another type or a field that is not a number: only these blame the data.
_OF_DATA = re.compile(
    r"WRONGTYPE|attempt to |bad argument|not an integer|must be strings or integers|would overflow"
)
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def is_of_data(exc: object) -> bool:
    """Whether the server refused a command because of what a key holds."""
    return isinstance(exc, ResponseError) and bool(_OF_DATA.search(str(exc)))


@contextmanager
def type_errors(bid: str) -> Iterator[None]:
    """Raise `CorruptBatch` if the server refuses because of what a key of this batch holds."""
    try:
        yield
    except ResponseError as exc:
        if not is_of_data(exc):
            raise
        raise _corrupt(bid, exc) from exc


@contextmanager
def corrupt_errors(bid: str) -> Iterator[None]:
    """Raise `CorruptBatch` if the data that was read from this batch cannot be parsed."""
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


@contextmanager
def store_errors(settings: Settings) -> Iterator[None]:
    """Turn redis-py's errors into `StoreUnavailable`, with the fix if the cause is known.

    Raises:
        StoreUnavailable: The store cannot be reached or refused the command.
    """
    try:
        yield
    except (RedisError, RedisClusterException) as exc:
        where = f"the batches' store at {show_address(settings.backend_url)}"
        raise StoreUnavailable(f"{where} {_explain(settings, exc)} ({settings.address_source})") from exc


def is_away(exc: BaseException) -> bool:
    """Whether the store did not answer; a store that refuses a call for one batch may take the next."""
    return isinstance(exc, StoreUnavailable) and not isinstance(exc.__cause__, ResponseError)


def _explain(settings: Settings, exc: Exception) -> str:
    cause = exc.__cause__ if isinstance(exc, RedisClusterException) else exc
    match cause:
        case AuthenticationError():
            return f"refused the user or the password: {cause}"
        case NoPermissionError():
            return f"does not allow its user to do this: {cause}"
        case RedisConnectionError() | RedisTimeoutError():
            return f"does not answer: {str(cause).rstrip('.')}; {_hint(cause)}"
        case MovedError() if not settings.backend_options.get("cluster"):
            return 'is a node of a Redis Cluster: add {"cluster": True} to batches_backend_options'
    if "Cluster mode is not enabled" in str(exc) or "cluster support disabled" in str(exc):
        return 'is no node of a Redis Cluster: take "cluster" out of batches_backend_options'
    return f"refused: {exc}"


def _hint(cause: Exception) -> str:
    if "Too many connections" in str(cause):
        return "all that max_connections in batches_backend_options allows are in use: raise it"
    return "is it running?"

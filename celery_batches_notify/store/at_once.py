"""Reading with the server's time: keys of one batch at one moment, or of many batches in one round trip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.client import Pipeline

from celery_batches_notify.store.connection import is_cluster

Clock = tuple[int, int]


def read_at_once(client: Redis, queue: Callable[[Pipeline], object]) -> tuple[Clock, list[Any]]:
    """Read keys of one batch in one moment; return the server's time (s, µs) and the answers."""
    return _read(client, queue, transaction=True)


def read_together(client: Redis, queue: Callable[[Pipeline], object]) -> tuple[Clock, list[Any]]:
    """Read keys of any batches in one round trip to each server; return the time (s, µs) and the answers.

    One batch's error is its answer: it keeps nobody from reading the others.
    """
    return _read(client, queue, transaction=False)


def _read(
    client: Redis, queue: Callable[[Pipeline], object], *, transaction: bool
) -> tuple[Clock, list[Any]]:
    # In a Cluster the time has no key, and so no node to go with the rest.
    clock: Any = client.time() if is_cluster(client) else None
    with client.pipeline(transaction=transaction) as pipe:
        if clock is None:
            pipe.time()
        queue(pipe)
        answers = pipe.execute(raise_on_error=transaction)
    if clock is None:
        clock, *answers = answers
    if isinstance(clock, Exception):
        raise clock
    return clock, answers

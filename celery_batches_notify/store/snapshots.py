"""Reading with the server's time: keys of one batch at one moment, or of many batches in one round trip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from redis import Redis
from redis.client import Pipeline

from celery_batches_notify.store.client import is_cluster

Clock = tuple[int, int]
Item = TypeVar("Item")


def read_snapshot(client: Redis, queue: Callable[[Pipeline], object]) -> tuple[Clock, list[Any]]:
    """Read keys of one batch at one moment; return the server's time (s, µs) and the answers."""
    return _read(client, queue, transaction=True)


def read_together(
    client: Redis, queue: Callable[[Pipeline], object], clock_of: str | None = None
) -> tuple[Clock, list[Any]]:
    """Read keys of any batches in one round trip to each server; return the time (s, µs) and the answers.

    The answer for a batch that cannot be read is its error, so the others are read all the same. In a Cluster
    the time is that of the node that holds the key `clock_of`, else of any node.
    """
    return _read(client, queue, transaction=False, raise_on_error=False, clock_of=clock_of)


def read_snapshots(
    client: Redis, items: Sequence[Item], queue: Callable[[Pipeline, Item], object]
) -> Iterator[tuple[Item, Clock, list[Any]]]:
    """Read keys of several batches, each batch at one moment: in one round trip, or one by one in a Cluster.

    The answer for a batch that cannot be read is its error, as with `read_together`.
    """
    step = 1 if is_cluster(client) else len(items)  # a transaction of a Cluster stays within one slot
    for start in range(0, len(items), step):
        part = items[start : start + step]

        def queue_part(pipe: Pipeline, part: Sequence[Item] = part) -> None:
            for item in part:
                queue(pipe, item)

        clock, answers = _read(client, queue_part, transaction=True, raise_on_error=False)
        width = len(answers) // len(part)
        for n, item in enumerate(part):
            yield item, clock, answers[n * width : (n + 1) * width]


def _read(
    client: Redis,
    queue: Callable[[Pipeline], object],
    *,
    transaction: bool,
    raise_on_error: bool = True,
    clock_of: str | None = None,
) -> tuple[Clock, list[Any]]:
    # TIME has no key, so in a Cluster it cannot be sent to the same node with the rest.
    clock: Any = _time_of_node(client, clock_of) if is_cluster(client) else None
    with client.pipeline(transaction=transaction) as pipe:
        if clock is None:
            pipe.time()
        queue(pipe)
        answers = pipe.execute(raise_on_error=raise_on_error)
    if clock is None:
        clock, *answers = answers
    if isinstance(clock, Exception):
        raise clock
    return clock, answers


def read_info(client: Any, key: str, section: str) -> Any:
    """Read a section of INFO: in a Cluster that of the node that holds the key."""
    return client.info(section, **(_node_of(client, key) if is_cluster(client) else {}))


def _time_of_node(client: Any, key: str | None) -> Any:
    return client.time(**(_node_of(client, key) if key else {}))


def _node_of(client: Any, key: str) -> dict[str, Any]:
    return {"target_nodes": client.get_node_from_key(key)}

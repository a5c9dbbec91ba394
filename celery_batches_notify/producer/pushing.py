"""Pushing many messages at once: packing them costs redis-py more than the rest of their calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_batches_notify.messages.celerys_own import is_from
from celery_batches_notify.store.fast_eval import run_packed


def push_texts(client: Any, key: str, texts: Sequence[str]) -> None:
    """Push texts to a list, as `client.lpush` does. Raises what redis-py raises."""
    # kombu's client that puts a prefix before each key has a method of its own, as has one that is traced.
    is_own = is_from("redis.client", type(client).execute_command) and client.connection is None
    command = _pack_lpush(key, texts) if is_own else None
    if command is None:
        client.lpush(key, *texts)
    else:
        run_packed(client.connection_pool, command)


def _pack_lpush(key: str, texts: Sequence[str]) -> bytes | None:
    """Pack the command; None if only the client knows in which encoding."""
    try:
        packed = [text.encode("ascii") for text in texts]
    except UnicodeEncodeError:
        return None
    name = key.encode()
    parts = [b""] * (2 * len(packed) + 1)
    parts[:-1:2] = [b"$%d" % len(each) for each in packed]
    parts[1::2] = packed
    head = b"*%d\r\n$5\r\nLPUSH\r\n$%d\r\n%s\r\n" % (2 + len(packed), len(name), name)
    return head + b"\r\n".join(parts)

"""Pushing many messages at once: to pack them costs redis-py more than the rest of their calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_batches_notify.messages.celerys_own import is_from
from celery_batches_notify.store.fast_eval import run_packed


def push_texts(client: Any, key: str, texts: Sequence[str]) -> None:
    """Push texts to a list, as `client.lpush` does. Raises what redis-py raises."""
    # kombu's client that puts a prefix before each key has a method of its own, as has one that is traced.
    is_own = is_from("redis.client", type(client).execute_command)
    packed = "".join([f"${len(text)}\r\n{text}\r\n" for text in texts])
    if not is_own or client.connection is not None or not packed.isascii():
        client.lpush(key, *texts)
        return
    name = key.encode()
    run_packed(
        client.connection_pool,
        b"*%d\r\n$5\r\nLPUSH\r\n$%d\r\n%s\r\n%s" % (2 + len(texts), len(name), name, packed.encode()),
    )

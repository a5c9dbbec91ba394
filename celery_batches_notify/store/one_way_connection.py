"""A connection for records of tasks in flight: it never waits for replies, and closes at the first error.

The kernel delivers what was written before a process was killed. The server must send no replies: if some lie
unread when the process ends, the kernel resets the connection and may drop what was written.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from celery_batches_notify.settings import Settings
from celery_batches_notify.store.client import is_cluster
from celery_batches_notify.store.errors import store_errors

SECONDS = 0.25


class OneWayConnection:
    """Writes one worker's records. It raises no error while writing, but closes until it is opened anew."""

    def __init__(self, client: Callable[[], Redis], settings: Settings, key: str, kept_ms: int) -> None:
        self._client = client
        self._settings = settings
        self._key = key.encode()
        self._kept_ms = kept_ms
        self._renewal = _pack(b"PEXPIRE", self._key, b"%d" % kept_ms)
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """Start anew: a fork's child must not write into its parent's connection."""
        self._lock = threading.Lock()
        self._connection: Any = None
        self._node: Any = None  # in a Cluster: the node that held the key when the connection was opened

    @property
    def is_open(self) -> bool:
        """Whether records can be written."""
        return self._connection is not None

    def open(self) -> None:
        """Connect, if need be. Raises `StoreUnavailable`."""
        if self._connection is not None:
            return
        with store_errors(self._settings):
            connection = self._make_connection()
            connection.socket_timeout = connection.socket_connect_timeout = SECONDS
            connection.retry = Retry(NoBackoff(), 0)
            connection.connect()
            connection.send_command("CLIENT", "REPLY", "OFF", check_health=False)
        self._connection = connection

    def check(self) -> None:
        """Keep the connection from being idle; close it if the server has answered or has gone.

        In a Cluster also close it if another node holds the key by now, because the old node's `MOVED` would
        not be read.

        Raises:
            StoreUnavailable: The server sent a reply, or the connection was cut.
        """
        connection = self._connection
        if connection is None:
            return
        with store_errors(self._settings):
            if self._node is not None and self._node != self._find_node():  # safety: node-moved
                self.close()
                return
            try:
                if connection.can_read(timeout=0):
                    connection.read_response()
                    raise RedisError("it answers although it was asked not to")
            except RedisError:
                self.close()
                raise
        self._write(_pack(b"PING"))

    def send(self, field: bytes, record: bytes) -> bool:
        """Write a record unless the field has one; return whether it was sent."""
        return self._write(_pack(b"HSETNX", self._key, field, record) + self._renewal)

    def replace(self, field: bytes, record: bytes) -> bool:
        """Write a record over the field's; return whether it was sent.

        In a Cluster it waits for the reply, because no beat writes it again if the key has moved.
        """
        if self._node is not None:  # safety: sure-note
            return self._replace_surely(field, record)
        return self._write(_pack(b"HSET", self._key, field, record) + self._renewal)

    def close(self) -> None:
        """Close the connection, if there is one."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _write(self, command: bytes) -> bool:
        with self._lock:
            connection = self._connection
            if connection is None:
                return False
            try:
                connection.send_packed_command((command,), check_health=False)
            except (RedisError, OSError):
                self._connection = None
                connection.disconnect()
                return False
        return True

    def _replace_surely(self, field: bytes, record: bytes) -> bool:
        client: Any = self._client()
        try:
            client.hset(self._key, field, record)
            client.pexpire(self._key, self._kept_ms)
        except (RedisError, RedisClusterException, OSError):
            return False
        return True

    def _find_node(self) -> Any:
        """Find the node that holds the key; None outside a Cluster."""
        client: Any = self._client()
        if not is_cluster(client):
            return None
        client.exists(self._key)  # so that it learns where the key has moved
        return client.get_node_from_key(self._key.decode())

    def _make_connection(self) -> Any:
        """Make a connection that the pool does not count: it would never be given back."""
        client: Any = self._client()
        self._node = self._find_node()
        if self._node is not None:
            client = client.get_redis_connection(self._node)
        pool = client.connection_pool
        return pool.connection_class(**pool.connection_kwargs)


def _pack(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)

"""A fast way to run scripts: redis-py's own costs a report more than its script does.

The connection is redis-py's, with its timeouts, retries and errors. Only the layers between a call and the
connection are left out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from inspect import Parameter, signature
from typing import Any

from redis import Redis

Argument = str | bytes | int | float

IDLE_SECONDS = 1.0
SPARED_CONNECTIONS = 16
KEYS_OF_ONE = 20  # a script over more keys reads another choice of batches each time


class FastEval:
    """Runs scripts over one connection that it keeps; if several threads run some, the rest use the pool.

    A Cluster's client, which chooses among nodes, and a small pool, which needs every connection, run scripts
    as redis-py does.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        plain = type(client) is Redis and client.connection_pool.max_connections >= SPARED_CONNECTIONS
        self._pool: Any = client.connection_pool if plain else None
        self._kept: list[tuple[Any, float]] = []  # at most one; its methods are atomic

    def evalsha(self, digest: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run a script that the server knows. Raises what redis-py raises."""
        if self._pool is None:
            return self._client.evalsha(digest, len(keys), *keys, *args)
        pack = _pack_script if len(keys) <= KEYS_OF_ONE else _pack_script.__wrapped__
        script = pack(digest, tuple(keys))
        command = (b"*%d\r\n%s%s" % (3 + len(keys) + len(args), script, _pack(args)),)
        connection = self._take()
        try:
            answer = _insist(connection, command)
        except BaseException:
            connection.disconnect()  # the reply may still arrive, and must not answer the next call
            self._pool.release(connection)
            raise
        if self._kept:
            self._pool.release(connection)
        else:
            self._kept.append((connection, time.monotonic()))
        return answer

    def _take(self) -> Any:
        """Take the kept connection; if it was idle, let the pool check that it still stands."""
        try:
            connection, used_at = self._kept.pop()
        except IndexError:
            return _connection_of(self._pool)
        if time.monotonic() - used_at < IDLE_SECONDS:
            return connection
        self._pool.release(connection)
        return _connection_of(self._pool)


def run_packed(pool: Any, command: bytes) -> Any:
    """Run one command, packed already, over a connection of this pool. Raises what redis-py raises."""
    connection = _connection_of(pool)
    try:
        return _insist(connection, (command,))
    except BaseException:
        connection.disconnect()  # the reply may still arrive, and must not answer the next command
        raise
    finally:
        pool.release(connection)


def _connection_of(pool: Any) -> Any:
    kind: Any = type(pool)  # hashable, as every class
    return pool.get_connection("EVALSHA") if _needs_name(kind) else pool.get_connection()


@lru_cache(maxsize=16)
def _needs_name(kind: Any) -> bool:
    """Whether a pool of this class asks for which command a connection is, as those of old redis-py do."""
    return signature(kind.get_connection).parameters["command_name"].default is Parameter.empty


def _insist(connection: Any, command: tuple[bytes]) -> Any:
    return connection.retry.call_with_retry(
        lambda: _ask(connection, command), lambda _: connection.disconnect()
    )


def _ask(connection: Any, command: tuple[bytes]) -> Any:
    connection.send_packed_command(command)
    return connection.read_response()


def _pack(parts: Sequence[Argument]) -> bytes:
    packed = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"".join([b"$%d\r\n%s\r\n" % (len(part), part) for part in packed])


@lru_cache(maxsize=64)
def _pack_script(digest: str, keys: tuple[str, ...]) -> bytes:
    return _pack(("EVALSHA", digest, len(keys), *keys))

"""The short way to the server, for scripts: redis-py's own costs a report more than its script does.

The connection is redis-py's, and so are its timeouts, its retries and its errors; left out is what lies
between a call and that connection.
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


class FastEval:
    """Runs scripts over one connection at a time that it keeps; several threads take others from the pool.

    Other clients go their own way, as a Cluster's, which chooses among nodes; so does a pool that was made
    small, which needs all it has.
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
        script = _pack_script(digest, tuple(keys))
        command = (b"*%d\r\n%s%s" % (3 + len(keys) + len(args), script, _pack(args)),)
        connection = self._take()
        try:
            answer = connection.retry.call_with_retry(
                lambda: _ask(connection, command), lambda _: connection.disconnect()
            )
        except BaseException:
            connection.disconnect()  # the reply may still come, and is not the next call's
            self._pool.release(connection)
            raise
        if self._kept:
            self._pool.release(connection)
        else:
            self._kept.append((connection, time.monotonic()))
        return answer

    def _take(self) -> Any:
        """Take what is kept; the pool looks whether what was idle has been cut meanwhile."""
        try:
            connection, used_at = self._kept.pop()
        except IndexError:
            return _connection_of(self._pool)
        if time.monotonic() - used_at < IDLE_SECONDS:
            return connection
        self._pool.release(connection)
        return _connection_of(self._pool)


def _connection_of(pool: Any) -> Any:
    command = signature(pool.get_connection).parameters["command_name"]
    return pool.get_connection("EVALSHA") if command.default is Parameter.empty else pool.get_connection()


def _ask(connection: Any, command: tuple[bytes]) -> Any:
    connection.send_packed_command(command)
    return connection.read_response()


def _pack(parts: Sequence[Argument]) -> bytes:
    packed = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"".join([b"$%d\r\n%s\r\n" % (len(part), part) for part in packed])


@lru_cache(maxsize=64)
def _pack_script(digest: str, keys: tuple[str, ...]) -> bytes:
    return _pack(("EVALSHA", digest, len(keys), *keys))

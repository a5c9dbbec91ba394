"""The connection that receives the tokens of all batches that a process follows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ssl import SSLWantReadError
from typing import Any, cast

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError

from celery_batches_notify.errors import BatchesError
from celery_batches_notify.store.client import is_cluster
from celery_batches_notify.store.keys import channel

# Whatever may end a subscription. Followers do not see it: their batches are read every few seconds anyway.
BROKEN = (RedisError, RedisClusterException, OSError, BatchesError)

CHUNK_BYTES = 256 * 1024
SEND_SECONDS = 5.0
ANSWER_SECONDS = 5.0
_HEARD = re.compile(
    rb"\n(?:message|subscribe)\r\n\$\d+\r\n%s([A-Za-z0-9_-]{10,64})\r\n|(?:^|\n)-[A-Z]+ "
    % channel("").encode()
)
_MATCH_BYTES = 128  # no match is longer


class Subscription:
    """A connection of its own, outside the client's pool, so that nobody else closes it.

    It searches what arrives for the names of channels instead of parsing it, because redis-py's parser would
    keep a core busy with the tokens of a few large batches. A payload that looks like a name only makes a
    batch be read once more.

    Every method raises one of `BROKEN` if the connection cannot be made or has ended. Times come from one
    monotonic clock.
    """

    def __init__(self, client: Redis, now: float) -> None:
        self._node: Any = client  # kept, because redis-py closes the connections of a node that it drops
        if is_cluster(client):  # each of its nodes hears all tokens
            cluster: Any = client
            self._node = cluster.get_redis_connection(cluster.get_random_node())
        pool = self._node.connection_pool
        self._connection: Any = pool.connection_class(**pool.connection_kwargs)
        self._connection.connect()
        self.socket: Any = self._connection._sock
        self._rest = b""
        self._heard_at = self._asked_at = now

    def subscribe(self, bids: Iterable[str]) -> None:
        """Begin to hear the tokens of these batches; `hear` names each once the server sends them."""
        self._send("SUBSCRIBE", *map(channel, bids))

    def unsubscribe(self, bids: Iterable[str]) -> None:
        """Stop hearing the tokens of these batches."""
        self._send("UNSUBSCRIBE", *map(channel, bids))

    def hear(self, now: float) -> tuple[set[str], bool]:
        """Take the tokens that have arrived; return their batches, and whether a command was refused."""
        named: set[bytes | None] = set()
        self.socket.settimeout(0)
        while chunk := self._receive():
            self._heard_at = now
            end, data = 0, self._rest + chunk
            for match in _HEARD.finditer(data):
                end = match.end()
                named.add(match[1])
            self._rest = data[max(end, len(data) - _MATCH_BYTES) :]
        return {bid.decode() for bid in named if bid is not None}, None in named

    @property
    def check_at(self) -> float:
        """When `check` must be called next."""
        return max(self._heard_at, self._asked_at) + ANSWER_SECONDS

    def check(self, now: float) -> None:
        """Ask for a sign of life if nothing came for a while; a connection that did not answer is broken."""
        if now < self.check_at:
            return
        if self._asked_at > self._heard_at:  # safety: silent-subscription
            raise RedisConnectionError(f"the server has said nothing for {ANSWER_SECONDS:.0f} s")
        self._send("PING")
        self._asked_at = now

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()

    def _receive(self) -> bytes:
        try:
            chunk = self.socket.recv(CHUNK_BYTES)
        except (BlockingIOError, SSLWantReadError):
            return b""
        if not chunk:
            raise RedisConnectionError("the server closed the connection")
        return cast("bytes", chunk)

    def _send(self, *words: str) -> None:
        self.socket.settimeout(SEND_SECONDS)
        for part in self._connection.pack_command(*words):
            self.socket.sendall(part)

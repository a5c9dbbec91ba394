"""Finds the commands that the store's user may not use, without running them: it queues and drops them."""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from celery_batches_notify.store.client import is_cluster
from celery_batches_notify.store.keys import Keys, channel

NOBODY = "0000000000"  # a bid that no batch has: real ones are longer

# Each command that the store's methods and scripts use, with the arguments it takes after the key.
ON_KEYS: dict[str, tuple[str, ...]] = {
    "BITFIELD": ("GET", "u2", "0"),
    "DEL": (),
    "EXISTS": (),
    "GET": (),
    "GETRANGE": ("0", "0"),
    "HDEL": ("x",),
    "HEXISTS": ("x",),
    "HGET": ("x",),
    "HGETALL": (),
    "HINCRBY": ("x", "1"),
    "HLEN": (),
    "HMGET": ("x",),
    "HRANDFIELD": ("1",),
    "HSCAN": ("0",),
    "HSET": ("x", "1"),
    "HSETNX": ("x", "1"),
    "LRANGE": ("0", "0"),
    "LTRIM": ("0", "0"),
    "PEXPIRE": ("1",),
    "PTTL": (),
    "RPUSH": ("x",),
    "SET": ("x",),
    "SETRANGE": ("0", "x"),
    "STRLEN": (),
    "UNLINK": (),
    "ZADD": ("0", "x"),
    "ZCARD": (),
    "ZRANGE": ("0", "0"),
    "ZREM": ("x",),
    "ZSCORE": ("x",),
}
SCRIPTS = (("EVALSHA", "0" * 40), ("EVAL", "return 1"))
OTHERS = (("TIME",), ("INFO",), ("SCAN", "0"))
CHANNELS = ("PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE")


def find_denied(client: Redis, keys: Keys) -> list[str]:
    """Return the commands that the user may not use on the keys and channels of batches.

    Within MULTI the server checks each command as it arrives and runs none, and the connection closes before
    EXEC. If it breaks, the check ends: over a new connection, outside MULTI, the rest would run.
    """
    key = keys.batch(NOBODY)
    node: Any = client
    if is_cluster(client):
        cluster: Any = client
        node = cluster.get_redis_connection(cluster.get_node_from_key(key))
    with node.client() as one:
        connection: Any = one.connection
        if _is_denied(connection, "MULTI"):
            return ["MULTI"]
        denied = [words[0] for words in _commands(key, keys) if _is_denied(connection, *words)]
        connection.disconnect()
    return denied


def _commands(key: str, keys: Keys) -> list[tuple[str, ...]]:
    commands = [(name, key, *arguments) for name, arguments in ON_KEYS.items()]
    commands += [(name, what, "1", key) for name, what in SCRIPTS]
    commands += [("ZADD", other, "0", "x") for other in (keys.index, keys.live, keys.cancelled)]
    commands += [*OTHERS, ("PUBLISH", channel(NOBODY), "")]
    return [*commands, *((name, channel(NOBODY)) for name in CHANNELS[1:])]


def _is_denied(connection: Any, *words: str) -> bool:
    connection.send_command(*words)
    try:
        connection.read_response()
    except NoPermissionError:
        return True
    except ResponseError:  # MOVED: another node has this key, and the command is permitted
        pass
    return False

"""Makes the client of the store from the settings: of one server, of Sentinel's master, or of a Cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from inspect import signature
from math import inf
from typing import Any, cast

from redis import Redis
from redis import cluster as redis_cluster
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import SSLConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.fork_safety import forks
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.errors import store_errors
from celery_batches_notify.store_url import SENTINEL_OPTIONS, split_addresses

# A task's time limit runs on while its outcome is reported, so one call must not take long.
CONNECT_TIMEOUT_SECONDS = 2
REPLY_TIMEOUT_SECONDS = 2
RETRIES = 1
CONNECTIONS_AT_MOST = 1000  # greenlets report side by side, and redis-py 8 stops at 100
NO_RETRY_SECONDS = 0.5
TIMEOUTS = ("socket_connect_timeout", "socket_timeout")
REDIS_PORT = 6379
SENTINEL_PORT = 26379


def connect(settings: Settings, *, no_retry: bool = False) -> Redis:
    """Make the client for these settings. Only the client of a Cluster connects at once, to read its nodes.

    Every script is safe to repeat, so a call whose reply is lost is sent again at once; with `no_retry` it is
    not, and waits for less long. A Cluster's client takes the calls that a plain one takes, except pipelines
    over several slots and with `TIME`. The URL's query may hold options too, which
    `batches_backend_options` overrides.

    Raises:
        ConfigurationError: redis-py does not accept the URL or an option.
        StoreUnavailable: No node of a Cluster answers.
    """
    with _option_errors():
        hosts, options = _read_options(settings)
        if no_retry:
            options |= _cap(options, NO_RETRY_SECONDS, Retry(NoBackoff(), 0))
        if options.pop("cluster", False):
            with store_errors(settings):
                return _connect_cluster(hosts, options)
        if settings.backend_url.startswith("sentinel:"):
            return _connect_sentinel(hosts, options)
        return _connect_plainly(hosts[0], options)


def longest_call_seconds(settings: Settings) -> float:
    """Return how many seconds connecting, asking and asking again take if no server answers."""
    _, options = _read_options(settings)
    asked = [options]
    if "master_name" in options:
        asked.append(_patience(**(options.get("sentinel_kwargs") or {})))
    with _option_errors():
        return (RETRIES + 1) * max(sum(each[name] or inf for name in TIMEOUTS) for each in asked)


def answering_within(settings: Settings, seconds: float) -> Settings:
    """Return settings under which a call that the store does not answer ends before so many seconds.

    The settings are returned unchanged if they do already. A call connects and asks, and each of the two is
    repeated `RETRIES` times.
    """
    theirs = settings.backend_options.get("sentinel_kwargs") or {}
    retries = "retry" in settings.backend_options or "retry" in theirs
    if not retries and longest_call_seconds(settings) < seconds:
        return settings
    _, options = _read_options(settings)
    each = seconds / (len(TIMEOUTS) * (RETRIES + 1) + 1)  # one share is left over, so a call still fits in
    capped = _cap(options, each, _retry())
    return replace(settings, backend_options={**settings.backend_options, **capped})


def check_options(settings: Settings) -> None:
    """Raise `ConfigurationError` if redis-py does not accept the URL or an option, without connecting.

    A Cluster is not checked, because its client cannot be made without asking its nodes.
    """
    if not settings.backend_options.get("cluster"):
        close(connect(settings))


def close(client: Redis) -> None:
    """Close a client's connections, including those to sentinels."""
    client.close()
    pool = getattr(client, "connection_pool", None)
    for each in pool.sentinel_manager.sentinels if isinstance(pool, SentinelConnectionPool) else ():
        each.close()


def close_idle(client: Redis) -> None:
    """Close the idle connections; closing one in use would break what its thread is doing."""
    pool = getattr(client, "connection_pool", None)  # a Cluster's client finds the new master by itself
    if pool is not None:
        pool.disconnect(inuse_connections=False)


def is_cluster(client: Redis) -> bool:
    """Whether this is the client of a Cluster."""
    return isinstance(client, RedisCluster)


def _read_options(settings: Settings) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Return the hosts, and redis-py's arguments: from the options, else from the URL, else our defaults."""
    port = SENTINEL_PORT if settings.backend_url.startswith("sentinel:") else REDIS_PORT
    hosts, own = _parse(split_addresses(settings.backend_url), port)
    given = {**own, **settings.backend_options}
    if isinstance(required := given.get("ssl_cert_reqs"), str):
        given["ssl_cert_reqs"] = required.removeprefix("CERT_").lower()  # Celery's word for redis-py's
    return hosts, {**_patience(), **given, "decode_responses": False}  # safety: bytes-replies


@contextmanager
def _option_errors() -> Iterator[None]:
    """Raise `ConfigurationError` if redis-py does not accept an option."""
    try:
        yield
    except (TypeError, ValueError, RedisError) as exc:
        raise ConfigurationError(f"batches_backend_url or batches_backend_options: {exc}") from None


def _check_connection_options(client: Redis) -> Redis:
    """Make a connection without connecting it: it raises if it does not accept an option."""
    pool = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)
    return client


def _cap(options: Mapping[str, Any], seconds: float, retry: Retry) -> dict[str, Any]:
    """Return options that limit how long a client waits for the store, and for its sentinels."""
    capped: dict[str, Any] = {name: min(options[name] or seconds, seconds) for name in TIMEOUTS}
    if "master_name" in options:
        theirs = _patience(**(options.get("sentinel_kwargs") or {}))
        capped["sentinel_kwargs"] = theirs | _cap(theirs, seconds, retry)  # safety: sentinel-budget
    return {**capped, "retry": retry}


def _retry() -> Retry:
    return Retry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES)


def _patience(**given: Any) -> dict[str, Any]:
    """Return our defaults: how long a client waits, how often it tries, how many connections it may make."""
    return {
        "max_connections": CONNECTIONS_AT_MOST,
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "socket_timeout": REPLY_TIMEOUT_SECONDS,
        "retry": _retry(),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
        **given,
    }


def _connect_plainly(host: tuple[str, int], options: dict[str, Any]) -> Redis:
    if "path" not in options:  # of a unix socket
        options["host"], options["port"] = host
        if options.pop("ssl", False):
            options["connection_class"] = SSLConnection
    return _check_connection_options(_let_forks_wait(Redis.from_url("redis://", **options)))


def _connect_cluster(hosts: list[tuple[str, int]], options: dict[str, Any]) -> Redis:
    if not hasattr(redis_cluster, "TransactionStrategy"):
        raise ConfigurationError(
            "a Redis Cluster needs redis-py 6.4 or newer, which Celery 5.6 and newer allow"
        )
    options.pop("db", None)  # it is 0
    takes = {*signature(Redis).parameters, *signature(RedisCluster).parameters}
    if unknown := sorted(options.keys() - takes):  # it would ignore them silently
        raise TypeError(f"a Cluster's client takes no argument {unknown[0]!r}")
    del options["retry_on_error"]  # the Cluster's client tries again itself, on the right node
    nodes = [ClusterNode(host, port) for host, port in hosts]  # type: ignore[no-untyped-call]
    with forks.waiting() if options.get("ssl") else nullcontext():
        client: Any = RedisCluster(startup_nodes=nodes, **options)
    for node in client.get_nodes():
        _let_forks_wait(client.get_redis_connection(node))
    manager = client.nodes_manager
    make = manager.create_redis_node
    manager.create_redis_node = lambda *args, **kwargs: _let_forks_wait(make(*args, **kwargs))  # later ones
    return cast("Redis", client)


def _connect_sentinel(hosts: list[tuple[str, int]], options: dict[str, Any]) -> Redis:
    name, theirs, others = (options.pop(option, None) for option in SENTINEL_OPTIONS)
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        hosts, min_other_sentinels=others or 0, sentinel_kwargs=_patience(**(theirs or {}))
    )
    master: Any = sentinel.master_for(name, **options)  # type: ignore[no-untyped-call]
    client = cast("Redis", master)
    for each in (client, *sentinel.sentinels):
        _let_forks_wait(each)
    return _check_connection_options(client)


class _Unforked:
    """A TLS connection that a fork cannot interrupt while it is made."""

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        with forks.waiting():
            return super()._wrap_socket_with_ssl(sock)  # type: ignore[misc]


def _let_forks_wait(client: Redis) -> Redis:
    pool = client.connection_pool
    if issubclass(kind := pool.connection_class, SSLConnection):
        pool.connection_class = type(kind.__name__, (_Unforked, kind), {})
        pool.disconnect()  # those that a Cluster's client has made already are of the other class
        pool.reset()
    return client


def _parse(urls: list[str], port: int) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Return the hosts, and what else the first URL says: user, password, database, TLS."""
    parsed: list[Any] = [parse_url(url.replace("sentinel:", "redis:", 1)) for url in urls]  # type: ignore[no-untyped-call]
    hosts = [(str(each.pop("host", "localhost")), int(each.pop("port", port))) for each in parsed]
    own = dict(parsed[0])
    if own.get("connection_class") is SSLConnection:
        own["ssl"] = bool(own.pop("connection_class"))
    return hosts, own

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from tests.support.cut_proxy import CutProxy, cut_proxy
from tests.support.servers import wait_until


@pytest.fixture
def proxied(server_url: str) -> Iterator[tuple[CutProxy, Redis]]:
    with cut_proxy(server_url) as (proxy, url):
        client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=5)
        yield proxy, client
        client.close()


@pytest.mark.parametrize(
    ("mode", "counted"),
    [("refuse", 1), ("cut_request", 1), ("cut_reply", 2), ("cut_mid_reply", 2)],
)
def test_a_cut_strikes_where_it_says(
    proxied: tuple[CutProxy, Redis], redis: Redis, mode: str, counted: int
) -> None:
    proxy, client = proxied
    client.incr("n")
    proxy.misbehave(mode)
    with pytest.raises(RedisConnectionError):
        client.incr("n")
    assert int(redis.get("n")) == counted
    proxy.behave()
    assert client.incr("n") == counted + 1


def test_what_a_blackhole_swallowed_arrives_once_it_ends(
    proxied: tuple[CutProxy, Redis], redis: Redis
) -> None:
    proxy, client = proxied
    client.ping()
    proxy.misbehave("blackhole")
    with pytest.raises(RedisTimeoutError):
        client.incr("n")
    proxy.behave()
    assert client.incr("n") in (1, 2)


def test_a_delayed_reply_comes_late(proxied: tuple[CutProxy, Redis], redis: Redis) -> None:
    proxy, client = proxied
    client.ping()
    proxy.misbehave("delay", seconds=15)
    with pytest.raises(RedisTimeoutError):
        client.incr("n")
    wait_until(lambda: redis.get("n") == b"1", what="the request")

"""dramatiq: messages one by one, and its group with a completion callback."""

from __future__ import annotations

import os

import dramatiq
from dramatiq import group
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend
from redis import Redis

from tests.bench.child import serve

URL = os.environ["BENCH_URL"]
redis = Redis.from_url(URL)
broker = RedisBroker(url=URL)
broker.add_middleware(GroupCallbacks(RedisBackend(client=redis)))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(item: object) -> None:
    """Do nothing."""


@dramatiq.actor
def over() -> None:
    """Say that all are over."""
    redis.lpush("bench:over", 1)


def loop(n: int) -> None:
    """Send messages one by one."""
    for _ in range(n):
        noop.send(7)
    over.send()


def together(n: int) -> None:
    """Send a group with a callback."""
    members = group(noop.message(7) for _ in range(n))
    members.add_completion_callback(over.message())
    members.run()


def main() -> None:
    """Send what is asked for."""
    serve({"loop": loop, "together": together}, empty=redis.flushdb, facts={"version": dramatiq.__version__})

"""RQ: jobs one by one, many at once, and its group with a job that depends on all others."""

from __future__ import annotations

import os

from redis import Redis
from rq import Queue
from rq.group import Group
from rq.version import VERSION

from tests.bench.child import serve

URL = os.environ["BENCH_URL"]
redis = Redis.from_url(URL)
queue = Queue("bench", connection=redis)


def noop(item: object) -> None:
    """Do nothing."""


def over() -> None:
    """Say that all are over."""
    redis.lpush("bench:over", 1)


NOOP, OVER = (f"tests.bench.peers.rq_app.{function.__name__}" for function in (noop, over))


def loop(n: int) -> None:
    """Enqueue jobs one by one."""
    for _ in range(n):
        queue.enqueue(NOOP, 7, result_ttl=0)
    queue.enqueue(OVER, result_ttl=0)


def many(n: int) -> None:
    """Enqueue jobs at once."""
    queue.enqueue_many([Queue.prepare_data(NOOP, (7,), result_ttl=0) for _ in range(n)])
    queue.enqueue(OVER, result_ttl=0)


def together(n: int) -> None:
    """Enqueue a group, and a job that depends on all its jobs."""
    group = Group.create(connection=redis)
    jobs = group.enqueue_many(queue, [Queue.prepare_data(NOOP, (7,), result_ttl=60) for _ in range(n)])
    queue.enqueue(OVER, depends_on=jobs, result_ttl=0)


def main() -> None:
    """Send what is asked for."""
    ways = {"loop": loop, "many": many, "together": together}
    serve(ways, empty=redis.flushdb, facts={"version": VERSION})

"""Figures of the status page: `python -m tests.bench.page`, with a store of its own.

Of a page: milliseconds at 1,000 and 1,000,000 members, and its length. Of the list: the 95th percentile over
10,000 batches. Of the map: milliseconds for 1,000,000 members. Of 500 streams: memory, share of a core, and
how late the last of them hears of a change.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import time
from collections.abc import Callable
from uuid import uuid4

from celery import Celery
from redis import Redis
from starlette.testclient import TestClient

from celery_batches_notify import Batches
from celery_batches_notify.engine import find_engine
from celery_batches_notify.member_map import describe_clusters, draw_map
from celery_batches_notify.membership import State
from celery_batches_notify.testing.server import embedded_server
from celery_batches_notify.web import status_page
from celery_batches_notify.web.live import Hub
from celery_batches_notify.web.maps import COLOURS
from celery_batches_notify.web.rendering import render
from celery_batches_notify.web.view import read_view
from tests.web.scene import make_batch, report, write_states

ROUNDS, STREAMS, SECONDS = 60, 500, 10


def timed(call: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Milliseconds of each of some calls, after a few to warm up, sorted; prints their CPU time."""
    for _ in range(5):
        call()
    found, cpu = [], time.process_time()
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        found.append((time.perf_counter() - began) * 1000)
    print(f"  {(time.process_time() - cpu) / rounds * 1000:.1f} ms of CPU each")
    return sorted(found)


def say(what: str, times: list[float], more: str = "") -> None:
    """Print the median and the 95th percentile."""
    print(f"{what}: {statistics.median(times):.1f} ms, p95 {times[int(len(times) * 0.95)]:.1f} ms{more}")


def measure_pages(app: Celery, redis: Redis) -> None:
    """Time the page of a small and of a large batch, and the map of the large one."""
    engine = find_engine(app)
    client = TestClient(status_page(app))
    for total in (1_000, 1_000_000):
        batch = make_batch(app, 1)
        dead, failing = range(total // 2, total // 2 + 100), range(0, total, total // 100)
        write_states(redis, batch, total, {State.DEAD: dead, State.FAILING: failing})
        size = len(client.get(f"/{batch.bid}").content)

        def page(bid: str = batch.bid) -> object:
            return render("batch_part.html", view=read_view(engine, bid), root=".", grants=(), web_url=None)

        say(f"page of {total:,} members", timed(page), f", {size:,} bytes")
    states = redis.get(f"batches:{{{batch.bid}}}:states") or b""
    for members in (1_000_000, 999_999):
        say(f"map of {members:,}", timed(lambda n=members: draw_map(states, n, COLOURS["light"])))
    say("clusters of 1,000,000", timed(lambda: describe_clusters(states, 1_000_000, State.DEAD, "dead")))


def measure_list(app: Celery, redis: Redis) -> None:
    """Time a page of a list of 10,000 batches, and a search that looks at 2,000."""
    pattern = redis.hgetall(f"batches:{{{make_batch(app, 2).bid}}}")
    with redis.pipeline(transaction=False) as pipe:
        for n in range(10_000):
            bid = f"bench-{n:08}"
            pipe.hset(f"batches:{{{bid}}}", mapping=pattern)
            pipe.zadd("batches:index", {bid: 1_700_000_000_000 + n})
        pipe.execute()
    client = TestClient(status_page(app))
    say("list of 10,000, 50 rows", timed(lambda: client.get("/list.part"), 100))
    say("search over 2,000", timed(lambda: client.get("/list.part?q=tag:none"), 30))


async def watch_many(app: Celery) -> None:
    """Let 500 clients watch one batch that moves four times a second."""
    engine, batch = find_engine(app), make_batch(app, 1_000)

    def draw(bid: str, _: frozenset[str]) -> str:
        return render("batch_part.html", view=read_view(engine, bid), root=".", grants=(), web_url=None)

    hub, heard = Hub(STREAMS, draw), [0] * STREAMS

    async def client(n: int) -> None:
        async for _ in hub.watch(engine, batch.bid, frozenset()):
            heard[n] += 1

    before = resource.getrusage(resource.RUSAGE_SELF)
    tasks = [asyncio.create_task(client(n)) for n in range(STREAMS)]
    began, done, late = time.monotonic(), 0, []
    while time.monotonic() - began < SECONDS:
        await asyncio.to_thread(report, batch, {done: State.SUCCEEDED})
        counts, at = list(heard), time.monotonic()
        while min(new - old for new, old in zip(heard, counts, strict=True)) < 1:
            await asyncio.sleep(0.01)
            if time.monotonic() - at > 10:
                break
        late.append((time.monotonic() - at) * 1000)
        done += 1
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    grown = (after.ru_maxrss - before.ru_maxrss) / 1024
    say(f"{STREAMS} streams, a change until the last hears", sorted(late))
    share = cpu / (time.monotonic() - began)
    print(f"{STREAMS} streams: +{grown:.0f} MB, {share:.0%} of a core, {min(heard)} drawings each")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """Measure everything."""
    with embedded_server() as url:
        app = Celery("bench", broker="memory://", set_as_current=False)
        app.conf.update(batches_backend_url=url, task_default_queue=f"q{uuid4().hex}")
        Batches(app)
        redis = Redis.from_url(url)
        measure_pages(app, redis)
        measure_list(app, redis)
        asyncio.run(watch_many(app))


if __name__ == "__main__":
    main()

"""Figures of the status page: `python -m tests.bench.page [--only NAME]`, with a store of its own.

`pages`: CPU time of a batch's page at 1,000 and at 1,000,000 members, and its length. `map`: the map of the
large one. `list`: each tab and search over 10,000 batches, the tabs counted anew each time. These three end
with the command that took the store longest. `streams`: memory and CPU time of a server with 500 live pages.
`lag`: how late a browser shows a change of the store. `soak`, if it is named: what a server holds while tabs
come and go for `--minutes`; `--speed` makes the server's clock run so many times as fast, so `--minutes 120
--speed 12` is a day of it.

All but `lag` is CPU time, because other work on the machine does not change it much.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, Batches
from celery_batches_notify.member_map import draw_map
from celery_batches_notify.membership import State
from celery_batches_notify.testing.server import embedded_server
from celery_batches_notify.web import census, status_page
from celery_batches_notify.web.maps import COLOURS
from celery_batches_notify.web.serving import settle
from tests.bench import page_live
from tests.web.scene import fail, make_batch, report, write_states

ROUNDS, SMALL, LARGE, LISTED = 100, 1_000, 1_000_000, 10_000
SEARCHES = {
    **{f"tab {name or 'all'}": f"/list.part?state={name}" for name in census.TABS},
    "text that no batch has": "/list.part?q=nothing",
    "text that all have": "/list.part?q=import",
    "tag that no batch has": "/list.part?q=tag:nothing",
    "bid of the oldest looked at": f"/list.part?q=bench-{LISTED - 2_000:08}",
    "all as a whole page": "/",
}
# Of a hundred batches: most have succeeded long ago.
USUAL: tuple[tuple[int, Mapping[str, int]], ...] = (
    (2, {}),
    (1, {"failing": 1}),
    (1, {"dead": 1, "succeeded": 1, "complete_at": 2, "finish_at": 2, "death_at": 2}),
    (1, {"cancelled_at": 2}),
    (95, {"succeeded": 2, "complete_at": 2, "finish_at": 2, "success_at": 2}),
)
RUNNING: tuple[tuple[int, Mapping[str, int]], ...] = ((100, {}),)


class Page:
    """The page of an app, asked in this process."""

    def __init__(self, app: Celery) -> None:
        self._page = status_page(app)
        self._runner = asyncio.Runner()

    def get(self, path: str) -> tuple[bytes, float]:
        """Return an answer's body, and the milliseconds of CPU time that it took."""
        return self._runner.run(self._ask(path))

    async def _ask(self, path: str) -> tuple[bytes, float]:
        path, _, query = path.partition("?")
        body = bytearray()
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": [],
            "root_path": "",
        }
        scope |= {"query_string": query.encode(), "server": ("bench", 80), "scheme": "http"}

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b""}

        async def send(message: Mapping[str, object]) -> None:
            assert message.get("status", 200) == 200, (path, message)
            body.extend(message.get("body", b""))  # type: ignore[arg-type]

        began = time.process_time()
        await self._page(scope, receive, send)
        return bytes(body), (time.process_time() - began) * 1000


def say(what: str, times: list[float], more: str = "") -> None:
    """Print the median and the 95th percentile of some milliseconds."""
    middle, late = statistics.median(times), sorted(times)[int(len(times) * 0.95)]
    print(f"{what}: {middle:.1f} ms, p95 {late:.1f} ms{more}", flush=True)


def make_large(app: Celery, redis: Redis, total: int) -> Batch:
    """A batch that runs, with 100 dead members in a row, 100 failing ones, and 3 kinds of failures."""
    batch = make_batch(app, 120)
    errors = ("KeyError", "TimeoutError", "IntegrityError")
    failures = {n: fail(errors[n % 3], f"row {n}") for n in range(100)}
    report(batch, dict.fromkeys(range(100), State.DEAD), failures)
    dead, failing = range(total // 2, total // 2 + 100), range(0, total, total // 100)
    write_states(redis, batch, total, {State.DEAD: dead, State.FAILING: failing, State.WAITING: [total - 1]})
    return batch


@contextmanager
def longest_command(redis: Redis) -> Iterator[None]:
    """Print the command, or script, of this block whose median in SLOWLOG is the longest."""
    redis.config_set("slowlog-max-len", 100_000)
    redis.config_set("slowlog-log-slower-than", 0)
    redis.slowlog_reset()
    yield
    redis.config_set("slowlog-log-slower-than", 10_000)
    durations: dict[str, list[int]] = {}
    for entry in redis.slowlog_get(100_000):
        words = entry["command"].decode("latin-1").split()
        name = " ".join(words[:2]) if words[0] == "EVALSHA" else words[0]
        durations.setdefault(name, []).append(entry["duration"])
    took, name = max((statistics.median(each) / 1000, name) for name, each in durations.items())
    print(
        f"  the longest command: {took:.1f} ms {name}, of {sum(map(len, durations.values())):,}", flush=True
    )


def measure_pages(app: Celery, redis: Redis) -> None:
    """Time the page of a small and of a large batch in turn, standing still and moving."""
    page, batches = Page(app), {total: make_large(app, redis, total) for total in (SMALL, LARGE)}
    with longest_command(redis):
        for how in ("stands still", "has moved"):
            times: dict[int, list[float]] = {total: [] for total in batches}
            sizes = {}
            for n in range(ROUNDS + 5):
                for total, batch in batches.items():
                    if how == "has moved":
                        redis.hincrby(f"batches:{{{batch.bid}}}", "reported_at", 1)
                    body, took = page.get(f"/{batch.bid}")
                    sizes[total] = len(body)
                    times[total] += [took] if n >= 5 else []
            for total, found in times.items():
                say(f"page of {total:,} members that {how}", found, f", {sizes[total]:,} bytes")
            print(f"  {statistics.median(times[LARGE]) / statistics.median(times[SMALL]):.2f} times as much")


def measure_map(app: Celery, redis: Redis) -> None:
    """Time the map of the large batch: the answer, and the drawing alone."""
    page, batch = Page(app), make_large(app, redis, LARGE)
    key = f"batches:{{{batch.bid}}}"
    with longest_command(redis):
        for how in ("has moved", "stands still"):
            times = []
            for _ in range(ROUNDS):
                if how == "has moved":
                    redis.hset(key, "reported_at", int(redis.hget(key, "reported_at") or 0) - 10_000)
                body, took = page.get(f"/{batch.bid}/map.png")
                times.append(took)
            say(f"map of {LARGE:,} members that {how}", times, f", {len(body):,} bytes")
    states: Any = redis.get(f"{key}:states")
    for total in (LARGE, LARGE - 1):
        times = []
        for _ in range(ROUNDS):
            began = time.process_time()
            draw_map(states, total, COLOURS["light"])
            times.append((time.process_time() - began) * 1000)
        say(f"drawing {total:,} members", times)


def fill_list(app: Celery, redis: Redis, shape: tuple[tuple[int, Mapping[str, int]], ...]) -> None:
    """Store so many batches that stand as the shape says."""
    pattern: Any = redis.hgetall(f"batches:{{{make_batch(app, 2, tags=['customer:42', 'nightly']).bid}}}")
    kinds = [fields for count, fields in shape for _ in range(count)]
    with redis.pipeline(transaction=False) as pipe:
        for n in range(LISTED):
            bid = f"bench-{n:08}"
            pipe.delete(f"batches:{{{bid}}}")
            pipe.hset(f"batches:{{{bid}}}", mapping=pattern | dict(kinds[n * 37 % 100]))
            pipe.zadd("batches:index", {bid: 1_700_000_000_000 + n})
        pipe.execute()


def measure_list(app: Celery, redis: Redis) -> None:
    """Time every tab and search over 10,000 batches; each time the tabs are counted anew."""
    census.COUNTED_SECONDS = 0
    for name, shape in (("usual", USUAL), ("all run", RUNNING)):
        redis.delete("batches:index")
        fill_list(app, redis, shape)
        page = Page(app)
        with longest_command(redis):
            for what, path in SEARCHES.items():
                page.get(path)
                times = [page.get(path)[1] for _ in range(ROUNDS // 4)]
                say(f"list of {LISTED:,} ({name}), {what}", times)


def main() -> None:
    """Measure what is asked for."""
    measures: dict[str, Callable[[Celery, Redis], None]] = {
        "pages": measure_pages,
        "map": measure_map,
        "list": measure_list,
        "streams": page_live.measure_streams,
        "lag": page_live.measure_lag,
        "soak": lambda app, redis: page_live.measure_soak(app, redis, options.minutes, options.speed),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=measures, action="append")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--speed", type=float, default=1)
    options = parser.parse_args()
    settle()
    for name in options.only or [name for name in measures if name != "soak"]:
        with embedded_server() as url:
            app = Celery("bench", broker="memory://", set_as_current=False)
            app.conf.update(batches_backend_url=url, task_default_queue=f"q{uuid4().hex}")
            Batches(app)
            measures[name](app, Redis.from_url(url))


if __name__ == "__main__":
    main()

"""What it costs to follow batches: `python tests/bench/followers.py [--followers 1000] [--tokens 100000]`.

All followers live in one process: a thread each (`for`) or an asyncio task each (`async for`). They follow
one batch, or each a batch of its own, of which all move (`many`) or one (`idle`), for six seconds. It prints
the connections and threads of that process, its CPU time and the store's, how long after the last report of
its batch a follower has seen the end, and how long another `asyncio.to_thread` of that process had to wait.
With `--tokens`, so many tokens a second are published beside the reports.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[2]))

from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, Batches, BatchesError
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.testing.server import embedded_server

REPORTING_SECONDS = 6.0
SEEN_SECONDS = 60.0
REPORTS = {"one": 400, "many": 10, "idle": 10}
SUCCEEDED = Outcome(state=State.SUCCEEDED)
TICKS = os.sysconf("SC_CLK_TCK")


def open_app(url: str) -> Celery:
    """Make an app whose batches are at this URL, and whose calls go nowhere."""
    app = Celery("followers", broker="memory://", set_as_current=False)
    app.conf.update(batches_backend_url=url)
    Batches(app)
    return app


# -- the process that follows ---------------------------------------------------------------------


class Followers:
    """Followers of these batches, and what they have seen."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches
        self.seen: list[float | None] = [None] * len(batches)
        self.readings = 0
        self.failed = 0
        self.begun = threading.Semaphore(0)
        self.asked_at: float | None = None
        self.waited = [0.0, 0.0]

    def follow(self, place: int) -> None:
        with self.noted(place):
            for progress in self.batches[place].follow():
                self.note(first=progress.ended == 0)

    async def follow_async(self, place: int) -> None:
        with self.noted(place):
            async for progress in self.batches[place].follow():
                self.note(first=progress.ended == 0)

    @contextmanager
    def noted(self, place: int) -> Iterator[None]:
        try:
            yield
        except BatchesError:
            self.failed += 1
            self.begun.release()
        else:
            self.seen[place] = time.monotonic()

    def note(self, *, first: bool) -> None:
        self.readings += 1
        if first:
            self.begun.release()

    async def ask_for_threads(self) -> None:
        """Run something else in asyncio's own threads, time and again."""
        while True:
            self.asked_at = time.monotonic()
            await asyncio.to_thread(int)
            self.waited.append(time.monotonic() - self.asked_at)
            self.asked_at = None
            await asyncio.sleep(0.1)

    async def follow_all_async(self) -> None:
        places = range(len(self.batches))
        await asyncio.gather(self.ask_for_threads(), *(self.follow_async(place) for place in places))

    def start(self, way: str) -> None:
        if way == "async":
            threading.Thread(target=lambda: asyncio.run(self.follow_all_async()), daemon=True).start()
        else:
            for place in range(len(self.batches)):
                threading.Thread(target=self.follow, args=(place,), daemon=True).start()

    def report(self) -> dict[str, object]:
        still = time.monotonic() - asked_at if (asked_at := self.asked_at) else 0.0
        waited = max(*self.waited, still)
        return {"seen": self.seen, "readings": self.readings, "failed": self.failed, "waited": waited}


def follow_until_told(way: str, url: str, bids: list[str]) -> None:
    app = open_app(url)
    known = {bid: Batch.get(bid, app=app) for bid in set(bids)}
    followers = Followers([known[bid] for bid in bids])
    followers.start(way)
    for _ in bids:
        followers.begun.acquire()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(followers.report()), flush=True)
    os._exit(0)  # some may wait for ever


# -- the process that reports ---------------------------------------------------------------------


def make_batches(app: Celery, count: int, members: int) -> list[tuple[str, list[str]]]:
    """Make sealed batches; return their ids, and those of their members."""

    @app.task(name="followers.row", shared=False)
    def row() -> None: ...

    made = []
    for _ in range(count):
        batch = Batch(app=app)
        made.append((batch.bid, [result.id for result in batch.add(*[row.s()] * members)]))
    return made


def report_all(app: Celery, made: list[tuple[str, list[str]]]) -> dict[str, float]:
    """Report all members within the time; return when each batch's last report was counted."""
    store = app._batches_extension.engine.store
    began, last = time.monotonic(), {}
    reports = [(bid, i, ids[i]) for i in range(len(made[0][1])) for bid, ids in made]
    for n, (bid, index, task_id) in enumerate(reports):
        time.sleep(max(0.0, began + REPORTING_SECONDS * n / len(reports) - time.monotonic()))
        store.record_outcome(Membership(bid=bid, index=index, task_id=task_id), SUCCEEDED)
        last[bid] = time.monotonic()
    return last


def publish_tokens(url: str, bids: list[str], rate: int, over: threading.Event) -> None:
    """Publish so many tokens a second on the channels of these batches, whoever keeps up."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    words = [
        b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\nbatch-%s\r\n$1\r\n+\r\n" % (6 + len(b), b.encode()) for b in bids
    ]
    chunk = b"".join((words * 1000)[:1000])
    with socket.create_connection((host, port)) as connection:
        began, sent = time.monotonic(), 0
        while not over.is_set():
            connection.sendall(chunk)
            sent += 1000
            while select.select([connection], [], [], 0)[0]:
                connection.recv(1 << 20)
            time.sleep(max(0.0, began + sent / rate - time.monotonic()))
        print(f"    {sent / (time.monotonic() - began):,.0f} tokens a second", flush=True)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / TICKS


def ask_until_seen(process: subprocess.Popen[str], ends: int) -> dict[str, Any]:
    """Ask what the followers have seen, until so many have seen the end, or the time is over."""
    deadline = time.monotonic() + SEEN_SECONDS
    while True:
        time.sleep(0.5)
        print(file=process.stdin, flush=True)
        told = json.loads(process.stdout.readline())
        if sum(map(bool, told["seen"])) + told["failed"] >= ends or time.monotonic() > deadline:
            process.stdin.close()
            process.wait()
            return told


def measure(way: str, which: str, count: int, tokens: int) -> None:
    """Run one case and print its line."""
    with embedded_server() as url, ExitStack() as stack:
        app, server = open_app(url), Redis.from_url(url)
        made = make_batches(app, 1 if which == "one" else count, REPORTS[which])
        bids = [made[place % len(made)][0] for place in range(count)]
        ours = server.info("clients")["connected_clients"]
        command = [sys.executable, __file__, "--follow", way, url]
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        print(*bids, file=process.stdin, flush=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(1)
        connections = server.info("clients")["connected_clients"] - ours
        threads = len(os.listdir(f"/proc/{process.pid}/task"))
        over = threading.Event()
        if tokens:
            flood = threading.Thread(target=publish_tokens, args=(url, bids, tokens, over))
            flood.start()
            stack.callback(flood.join)
        stack.callback(over.set)
        before = cpu_seconds(process.pid), cpu_seconds(server.info("server")["process_id"]), time.monotonic()
        last = report_all(app, made[: 1 if which == "idle" else None])
        spent = cpu_seconds(process.pid), cpu_seconds(server.info("server")["process_id"]), time.monotonic()
        cpu, store_cpu, took = (b - a for a, b in zip(before, spent, strict=True))
        over.set()
        told = ask_until_seen(process, sum(bid in last for bid in bids))
        delays = sorted(at - last[bid] for at, bid in zip(told["seen"], bids, strict=True) if at)
        end = f"median {statistics.median(delays):.2f} s, last {delays[-1]:.2f} s" if delays else "none"
        print(
            f"{count} {way} followers of {which}: {connections} connections, {threads} threads; "
            f"CPU {cpu / took:.0%} of a core, the store's {store_cpu / took:.0%}; "
            f"{told['readings']} readings; {told['failed']} could not follow; "
            f"the end seen by {len(delays)}: {end}; another to_thread waited {told['waited']:.2f} s",
            flush=True,
        )


def main() -> None:
    """Print the figures."""
    if sys.argv[1:2] == ["--follow"]:
        follow_until_told(*sys.argv[2:4], sys.stdin.readline().split())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--followers", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=0, help="published a second beside the reports")
    parser.add_argument("--way", choices=["sync", "async"])
    parser.add_argument("--batches", choices=list(REPORTS))
    options = parser.parse_args()
    for way in [options.way] if options.way else ["sync", "async"]:
        for which in [options.batches] if options.batches else REPORTS:
            measure(way, which, options.followers, options.tokens)


if __name__ == "__main__":
    main()

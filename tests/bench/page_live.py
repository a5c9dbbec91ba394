"""Live pages: what 500 cost their server, how late a browser shows a change, what a long run leaves."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection
from typing import cast
from unittest import mock

from celery import Celery
from playwright.sync_api import Browser, sync_playwright
from redis import Redis

from celery_batches_notify import Batch, Batches
from celery_batches_notify.membership import State
from celery_batches_notify.testing.server import find_free_port
from celery_batches_notify.web import status_page
from celery_batches_notify.web.serving import PageServer, settle
from tests.support.clocks import fast_clock
from tests.web.scene import make_batch, report

STREAMS, CHANGES, LAGS = 500, 40, 60
SOAK_BATCHES, SOAK_TABS, SETTLED_SECONDS = 200, 100, 300
EVERY_SECONDS = 0.25
FRAME = b"event: page"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
# Notes when the page shows which figure.
NOTE = """() => {
  window.shown = [];
  const note = () => {
    const n = Number(document.getElementById("n-succeeded").textContent.replaceAll(",", ""));
    window.shown.push([n, Date.now()]);
  };
  new MutationObserver(note).observe(
    document.getElementById("live"), {subtree: true, childList: true, characterData: true});
}"""


def serve(url: str, port: int, streams: int) -> None:
    """Serve the page of the batches in a store, as `batch web` does."""
    app = Celery("bench", broker="memory://", set_as_current=False)
    app.conf.update(batches_backend_url=url)
    Batches(app)
    page = status_page(app, streams=streams)
    settle()
    PageServer(page, host="127.0.0.1", port=port, log_level="critical").run()


@contextmanager
def serving(app: Celery, streams: int = STREAMS, speed: float = 1) -> Iterator[tuple[int, int]]:
    """Serve the page in a process of its own, with a clock that may be fast; yields its pid and its port."""
    port = find_free_port()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(app.conf.batches_backend_url, port, streams)
    )
    with mock.patch.dict(os.environ, fast_clock(speed) if speed != 1 else {}):
        process.start()
    try:
        for _ in range(600):
            try:
                create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        assert process.pid is not None
        yield process.pid, port
    finally:
        process.terminate()
        process.join()


class Client(asyncio.Protocol):
    """Asks for a path, and counts the frames of a stream. Its server shall be the one with most to do."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.frames = 0
        self.ended = asyncio.Event()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        request = f"GET {self.path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
        self._transport.write(request.encode())

    def close(self) -> None:
        """Leave without a word, as a tab does that is closed."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        self.frames += data.count(FRAME)
        self._rest = data[1 - len(FRAME) :]

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


async def open_client(port: int, path: str) -> Client:
    """Connect a client."""
    _, client = await asyncio.get_running_loop().create_connection(lambda: Client(path), "127.0.0.1", port)
    return client


async def load(port: int, path: str) -> None:
    """Load a page."""
    await (await open_client(port, path)).ended.wait()


def read_usage(pid: int) -> tuple[float, float]:
    """Return the CPU seconds that a process has used, and its memory in MB."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    memory = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(memory) / 1024


def measure_streams(app: Celery, redis: Redis) -> None:
    """Let 500 clients watch one batch, and then 50 batches, each of which moves four times a second."""
    for count in (1, 50):
        batches = [make_batch(app, 2_000) for _ in range(count)]
        for batch in batches:
            report(batch, dict.fromkeys(range(1_900, 1_930), State.DEAD))
        with serving(app) as (pid, port):
            for _ in range(20):
                asyncio.run(load(port, f"/{batches[0].bid}"))
            asyncio.run(watch(pid, port, batches))


async def watch(pid: int, port: int, batches: list[Batch]) -> None:
    """Open the streams, change the batches, and print what it took."""
    _, before = read_usage(pid)
    clients = [await open_client(port, f"/{batches[n % len(batches)].bid}/live") for n in range(STREAMS)]
    while not all(client.frames for client in clients):
        await asyncio.sleep(0.1)
    cpu, began, first = read_usage(pid)[0], time.monotonic(), [client.frames for client in clients]
    for done in range(CHANGES):
        for batch in batches:
            await asyncio.to_thread(report, batch, {done: State.SUCCEEDED})
        await asyncio.sleep(max(0, began + (done + 1) * EVERY_SECONDS - time.monotonic()))
    share = (read_usage(pid)[0] - cpu) / (time.monotonic() - began)
    seen = [client.frames - then for client, then in zip(clients, first, strict=True)]
    grown, took = read_usage(pid)[1] - before, time.monotonic() - began
    print(
        f"{STREAMS} streams of {len(batches)} batches: +{grown:.0f} MB, {share:.0%} of a core; "
        f"{CHANGES} changes in {took:.0f} s, {min(seen)} to {max(seen)} frames each",
        flush=True,
    )


def measure_soak(app: Celery, redis: Redis, minutes: float, speed: float) -> None:
    """Let tabs come and go over batches that come and go; print what memory and files the server holds."""
    with serving(app, speed=speed) as (pid, port):
        asyncio.run(soak(app, pid, port, minutes * 60, speed))


async def soak(app: Celery, pid: int, port: int, seconds: float, speed: float) -> None:
    """Open and close tabs on two hundred batches, of which one is replaced every second of its clock."""
    batches, tabs = [make_batch(app, 500) for _ in range(SOAK_BATCHES)], set[Client]()
    chance, began, opened = random.Random(2), time.monotonic(), 0
    said = settled = highest = 0.0
    while (passed := time.monotonic() - began) < seconds:
        old = batches.pop(chance.randrange(len(batches)))
        await asyncio.to_thread(old.delete)
        batches.append(await asyncio.to_thread(make_batch, app, 500))
        for batch in chance.sample(batches, 5):
            done = dict.fromkeys(chance.sample(range(500), 3), chance.choice([State.SUCCEEDED, State.DEAD]))
            await asyncio.to_thread(report, batch, done)
        for tab in chance.sample(sorted(tabs, key=id), len(tabs) // 4):
            tab.close()
            tabs.remove(tab)
        for _ in range(SOAK_TABS - len(tabs)):
            tabs.add(await open_client(port, f"/{chance.choice(batches).bid}/live"))
            opened += 1
        bid = chance.choice(batches).bid
        for path in (f"/{bid}", f"/{bid}/map.png", f"/{bid}/members", f"/{bid}.json", "/", "/list.json"):
            await load(port, path)
        held, files = read_usage(pid)[1], len(list(Path(f"/proc/{pid}/fd").iterdir()))
        highest = max(highest, held)
        if passed >= said:
            settled = held if said == SETTLED_SECONDS else settled
            more = f", {held - settled:+.1f} MB since minute {SETTLED_SECONDS // 60}" if settled else ""
            clock = f" ({passed * speed / 3600:.1f} h of the server's clock)" if speed != 1 else ""
            print(
                f"{passed / 60:.0f} min{clock}, {opened:,} tabs: {held:.1f} MB, {files} files{more}",
                flush=True,
            )
            said += SETTLED_SECONDS
        await asyncio.sleep(max(0.0, began + passed + 1 / speed - time.monotonic()))
    for tab in tabs:
        tab.close()
    await asyncio.sleep(2)
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    print(
        f"2 s after the last tab: {read_usage(pid)[1]:.1f} MB, at most {highest:.1f}, {files} files",
        flush=True,
    )


def measure_lag(app: Celery, redis: Redis) -> None:
    """Change a batch at any moment, and print how long after it Chromium shows the change."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        for how, streams in (("streams", STREAMS), ("asks", 0)):
            with serving(app, streams) as (_, port):
                lags = sorted(read_lags(app, browser, port))
            p95 = lags[int(len(lags) * 0.95)]
            print(
                f"a page that {how} shows a change {statistics.median(lags):.0f} ms later, "
                f"p95 {p95:.0f} ms, at most {lags[-1]:.0f} ms ({len(lags)} changes)",
                flush=True,
            )
        browser.close()


def read_lags(app: Celery, browser: Browser, port: int) -> list[float]:
    """Change a batch of 2,000 members with failures; return by how many ms the browser was late each time."""
    batch, chance = make_batch(app, 2_000), random.Random(1)
    report(batch, dict.fromkeys(range(1_900, 1_930), State.DEAD))
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{port}/{batch.bid}")
    page.evaluate(NOTE)
    time.sleep(2)
    reported = []
    for done in range(1, LAGS + 1):
        report(batch, {done - 1: State.SUCCEEDED})
        reported.append((done, time.time() * 1000))
        page.wait_for_timeout(chance.uniform(50, 1_500))
    page.wait_for_timeout(6_000)
    shown: list[tuple[int, float]] = page.evaluate("window.shown")
    page.close()
    return [next(at for n, at in shown if n >= done) - since for done, since in reported]

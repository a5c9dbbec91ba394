"""By hand, for hours (T45): batches without end, a fault every so often, and an exact account at the end.

`tox -e soak -- tests/chaos/soak.py --minutes 10`; the default is two hours. It says how it goes every half
minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.own_server import OwnServer
from tests.chaos.scene import Scene

PER_SECOND = 300
MEMBERS = 300
FAULT_SECONDS, AWAY_SECONDS = 20.0, 4.0
SHOWN_SECONDS = 30.0
KINDS, WEIGHTS = ("ok", "retry", "die"), (96, 3, 1)
FLUSH_SECONDS = 90.0


def test_hours_of_faults_leave_every_batch_exact(
    request: pytest.FixtureRequest, start_server: Callable[..., OwnServer], set_scene: Callable[..., Scene]
) -> None:
    minutes = request.config.getoption("--minutes")
    store, broker = start_server("store"), start_server("broker")
    scene = set_scene(store.url, broker.url, batches_report_timeout=2)
    for pool in ("prefork", "prefork", "threads"):
        scene.fleet.add(pool, concurrency=4)
    meter = Meter(scene)
    end = time.monotonic() + minutes * 60
    with scene.storm(faults(scene, store, broker), every_seconds=FAULT_SECONDS) as storm:
        while time.monotonic() < end:
            next_at = time.monotonic() + MEMBERS / PER_SECOND
            _insist(lambda: scene.batch(scene.draw.choices(KINDS, WEIGHTS, k=MEMBERS)))
            meter.show(storm.log)
            time.sleep(max(0, next_at - time.monotonic()))
    scene.wait(FLUSH_SECONDS + minutes * 60)
    meter.show(storm.log, always=True)
    scene.verdict()


def _insist(publish: Callable[[], object]) -> None:
    """Publish a batch; where that raised, nobody asked for it, and another will do."""
    try:
        publish()
    except Exception as exc:
        print(f"not published: {type(exc).__name__}", flush=True)
        time.sleep(1)


def faults(scene: Scene, store: OwnServer, broker: OwnServer) -> dict[str, Callable[[], object]]:
    """What can happen: each ends by itself."""

    def away(server: OwnServer) -> None:
        server.kill()
        time.sleep(AWAY_SECONDS)
        server.start()

    def frozen(thing: object) -> None:
        thing.freeze()  # type: ignore[attr-defined]
        time.sleep(AWAY_SECONDS)
        thing.thaw()  # type: ignore[attr-defined]

    def full() -> None:
        store.client.config_set("maxmemory", 1)
        time.sleep(AWAY_SECONDS)
        store.client.config_set("maxmemory", 0)

    return {
        **scene.kills(),
        "the store is killed": lambda: away(store),
        "the store is frozen": lambda: frozen(store),
        "the store is full": full,
        "SCRIPT FLUSH": store.client.script_flush,
        "the store cuts everybody": lambda: store.client.execute_command("CLIENT", "KILL", "TYPE", "normal"),
        "the broker is frozen": lambda: frozen(broker),
        "a worker is frozen": lambda: frozen(scene.draw.choice(scene.fleet.workers)),
    }


class Meter:
    """Shows now and then how it goes, and how much the workers take."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._began = self._shown = time.monotonic()

    def show(self, faults: list[str], *, always: bool = False) -> None:
        """Print a line, if it is time."""
        now = time.monotonic()
        if now - self._shown < SHOWN_SECONDS and not always:
            return
        self._shown = now
        processes = [p for w in self._scene.fleet.workers if w.process for p in _family(w.process.pid)]
        kilobytes, files = sum(map(_resident, processes)), sum(map(_open_files, processes))
        print(
            f"{now - self._began:7.0f} s: {len(self._scene.asked)} batches, {self._scene.count('ok')} runs, "
            f"{len(faults)} faults, {len(processes)} processes, {kilobytes / 1024:.0f} MB, {files} files",
            flush=True,
        )


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(below for child in children for below in _family(int(child)))]


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)


def _open_files(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0

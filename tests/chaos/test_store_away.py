"""A store that is away while members run and workers are killed (T12)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.own_server import OwnServer
from tests.chaos.scene import Scene, is_full
from tests.support.away import spooled
from tests.support.servers import wait_until

MEMBERS, AWAY_SECONDS = (5_000, 60) if is_full() else (400, 8)


def test_outcomes_of_an_outage_are_counted_once_the_store_and_a_worker_are_back(
    start_server: Callable[..., OwnServer], set_scene: Callable[..., Scene], tmp_path: Path
) -> None:
    """A worker is killed with its outcomes on the disk only: their messages are acknowledged."""
    spool, store = tmp_path / "spool", start_server("store")
    scene = set_scene(store.url, start_server("broker").url, batches_report_timeout=1)
    for _ in range(2):
        scene.fleet.add("prefork")
    scene.batch(["ok"] * MEMBERS, lambda: scene.draw.uniform(0, 0.08))
    wait_until(lambda: scene.count("ok") > MEMBERS // 8, what="the first members")
    store.kill()
    before = scene.count("ok")
    time.sleep(AWAY_SECONDS / 2)
    wait_until(lambda: spooled(spool) and scene.count("ok") > before, what="outcomes on the disk")
    scene.fleet.workers[0].kill()
    time.sleep(AWAY_SECONDS / 2)
    ran, lines = scene.count("ok") - before, spooled(spool)
    store.start()
    began = time.monotonic()
    scene.fleet.workers[0].start()
    scene.wait(3600 if is_full() else 60)
    print(f"{ran} members ran while the store was away, {lines} outcomes were on the disk")
    print(f"all was told {time.monotonic() - began:.1f} s after its return")
    assert lines > 0
    scene.verdict()

"""Processes that die at each named place (T3, T4, T5): producers, members' processes, and those that tell."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from celery_batches_notify.membership import State
from tests.chaos.fleet import search_path
from tests.chaos.own_server import OwnServer
from tests.chaos.scene import EVENTS, Scene, is_full
from tests.support.failpoints import POINTS_VARIABLE
from tests.support.servers import wait_until

FULL = is_full()
PRODUCERS = ["P1", "P2", "P2#3", "P3", "P3#2", "P4", "P4#5", "P4#15", "P5", "P6"]
MEMBERS_OF_PRODUCERS = 20


@pytest.fixture
def scene(start_server: Callable[..., OwnServer], set_scene: Callable[..., Scene]) -> Scene:
    return set_scene(start_server("store").url, start_server("broker").url)


def run_doomed(scene: Scene, point: str, runs: int) -> list[str]:
    """Let producers die there; return the batches that they began."""
    began = {e.bid for e in scene.journal.read() if e.kind == "began"}
    command = [
        sys.executable,
        "-m",
        "tests.chaos.doomed_producers",
        point,
        str(runs),
        str(MEMBERS_OF_PRODUCERS),
    ]
    environment = {**scene.fleet.environment, "PYTHONPATH": search_path()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    bids = {e.bid for e in scene.journal.read() if e.kind == "began"} - began
    assert len(bids) == runs
    return sorted(bids)


def test_batches_of_producers_that_die_are_never_early_and_count_what_ran(scene: Scene) -> None:
    scene.fleet.add("threads", concurrency=4)
    runs = 50 if FULL else 2
    doomed = {point: run_doomed(scene, point, runs) for point in PRODUCERS}
    broker = scene.app.conf.broker_url
    wait_until(lambda: is_drained(scene), seconds=60, what=f"the end of all messages at {broker}")
    store = scene.app._batches_extension.engine.store
    journal = scene.journal.read()
    for point, bids in doomed.items():
        for bid in bids:
            mine = [e for e in journal if e.bid == bid]
            ran = {e.id for e in mine if e.kind == "ok"}
            asked = {e.id for e in mine if e.kind == "asked"}
            status = store.read_status(bid)
            states = {m.id: m.state for chunk in store.walk_members(bid, status.total) for m in chunk}
            assert {id_ for id_, state in states.items() if state is State.SUCCEEDED} == ran, point
            if point == "P6":
                assert status.state == "success"
                assert len(ran) == status.total == MEMBERS_OF_PRODUCERS
                continue
            assert status.state == "open", point
            assert not [e.kind for e in mine if e.kind == "called" or e.words in (["!"], ["$"])], point
            assert states.keys() <= asked | {first_unasked(states, asked)}, point
        print(f"{point}: {len(bids)} producers died; members of the last: {len(states)}, ran {len(ran)}")
    assert not [key for key in store.client.scan_iter("batches*") if store.client.ttl(key) == -1]
    wait_until(lambda: {told(scene, bid) for bid in doomed["P6"]} == {frozenset(EVENTS) - {"death"}})


def first_unasked(states: dict[str, State], asked: set[str]) -> str:
    """The call that had not returned when its producer died."""
    return next(iter(states.keys() - asked), "")


def is_drained(scene: Scene) -> bool:
    with scene.app.connection_for_read() as connection:
        client = connection.default_channel.client
        return client.llen(scene.conf["task_default_queue"]) == 0 == client.hlen("unacked")


def told(scene: Scene, bid: str) -> frozenset[str]:
    return frozenset(e.words[0] for e in scene.journal.read() if e.bid == bid and e.kind == "called")


@pytest.mark.parametrize("point", ["W1", "W2", "W3", "W4"])
def test_processes_that_die_around_a_report_lose_and_repeat_nothing(scene: Scene, point: str) -> None:
    share = f"{point}:0.1@{scene.draw.randrange(10**6)}s{{start}}"
    scene.fleet.add("prefork", concurrency=4, **{POINTS_VARIABLE: share})
    for n in range(100 if FULL else 2):
        scene.batch(["ok"] * 100 if FULL else ["ok" if n else "retry"] * 40)
    scene.wait(24 * 3600 if FULL else 60)
    ledgers = scene.verdict()
    runs = sum(line.starts for ledger in ledgers for line in ledger.lines.values())
    reports = sum(line.reports.total() for ledger in ledgers for line in ledger.lines.values())
    asked = sum(len(ledger.lines) for ledger in ledgers)
    print(f"{runs} runs and {reports} reports of {asked} members")
    assert max(runs, reports) > asked


def test_a_worker_that_dies_before_it_acknowledges_repeats_nothing(scene: Scene) -> None:
    share = f"W3-main:0.02@{scene.draw.randrange(10**6)}s{{start}}"
    for _ in range(2):
        scene.fleet.add("threads", **{POINTS_VARIABLE: share})
    for _ in range(20 if FULL else 3):
        scene.batch(["ok"] * 50)
    with scene.storm({"start what died": scene.fleet.revive}, every_seconds=0.5):
        scene.wait(3600 if FULL else 60)
    scene.verdict()


def test_callbacks_whose_publishers_die_are_told_again_under_the_same_ids(scene: Scene) -> None:
    """R1 claimed, R2 at the broker and not noted, R3 noted: in the pool's processes and in the sweeper."""
    seed = scene.draw.randrange(10**6)
    shares = ",".join(f"{point}:{0.3 if FULL else 0.1}@{seed}s{{start}}" for point in ("R1", "R2", "R3"))
    for _ in range(2):
        scene.fleet.add("prefork", **{POINTS_VARIABLE: shares})
    if FULL:  # where all sweepers die at every third step, how soon they are started is what would be timed
        scene.fleet.add("prefork")
    began = time.monotonic()
    with scene.storm({"start what died": scene.fleet.revive}, every_seconds=0.5):
        for _ in range(500 if FULL else 16):
            scene.batch(["ok"])
            time.sleep(0.5 if FULL else 0)
        scene.wait(3600 if FULL else 90)
    ledgers = scene.verdict()
    calls = sum(len(calls) for ledger in ledgers for calls in ledger.called.values())
    print(f"{calls} calls of {3 * len(ledgers)} callbacks within {time.monotonic() - began:.0f} s")
    waits = sorted(
        float(calls[0].words[-1]) - ledger.status.finish_at.timestamp()
        for ledger in ledgers
        for calls in ledger.called.values()
    )
    p99 = waits[len(waits) * 99 // 100]
    print(f"first called after {waits[len(waits) // 2]:.1f} s (median), {p99:.1f} s (p99), {waits[-1]:.1f} s")
    assert p99 <= 35 or not FULL

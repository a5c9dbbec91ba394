"""Batches heal by themselves from what a Redis broker loses: kept calls are sent again (T1, promise 4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from celery_batches_notify import Batch
from celery_batches_notify.errors import BatchesError
from tests.chaos.own_server import OwnServer
from tests.chaos.scene import Scene, is_full
from tests.support.servers import wait_until

BATCHES, MEMBERS, STORM_SECONDS = (200, 500, 600) if is_full() else (6, 60, 8)
LONGEST_SECONDS = 7200 if is_full() else 240
STILL_SECONDS = 3
SAY = {
    "task_acks_late": True,
    "worker_enable_remote_control": True,  # nothing is sent again before every worker has answered
    "batches_worker_lease": 5,
    "batches_vanished": "resend",
    "batches_keep_calls": True,
    "chaos_still_seconds": STILL_SECONDS,
}


def has_succeeded(scene: Scene, bid: str) -> bool:
    """Whether a batch succeeded; an answer that does not come is no."""
    try:
        return Batch.get(bid, app=scene.app).status().success_at is not None
    except BatchesError:
        return False


def count_open(scene: Scene) -> int:
    """How many batches have not succeeded yet."""
    return sum(not has_succeeded(scene, asked.bid) for asked in scene.asked)


@pytest.mark.parametrize("emptied", [False, True], ids=["kills", "emptied"])
def test_every_batch_succeeds_by_itself_whatever_the_broker_lost(
    start_server: Callable[..., OwnServer], set_scene: Callable[..., Scene], emptied: bool
) -> None:
    store, broker = start_server("store"), start_server("broker")
    scene = set_scene(store.url, broker.url, **SAY)
    for pool in ("prefork", "threads"):
        scene.fleet.add(pool)
    for _ in range(BATCHES):
        scene.batch(["ok"] * MEMBERS, lambda: scene.draw.uniform(0, 0.06))
    with scene.storm(scene.kills(), every_seconds=2):
        if emptied:
            half = BATCHES * MEMBERS // 2
            wait_until(lambda: scene.count("ok") >= half, seconds=LONGEST_SECONDS, what="half of it")
            broker.client.flushdb()
        else:
            scene.wait(STORM_SECONDS)
    before = count_open(scene)
    if emptied:
        assert before, "nothing was left to lose"
    wait_until(lambda: not count_open(scene), seconds=LONGEST_SECONDS, what="every success")
    print(f"{before} batches were open after the storm, none is now; {scene.fleet.deaths} deaths")
    scene.wait(60)  # until everybody was told
    if not emptied:
        scene.verdict(may_lose=True)  # a lease may end before the broker hands a killed worker's members out
        return
    for ledger in scene.ledgers():  # the broker also lost messages of callbacks, which no member waits for
        assert ledger.status.succeeded == MEMBERS
        assert not ledger.faults(may_lose=True, heard_all=False, vanished=frozenset(ledger.unended()))

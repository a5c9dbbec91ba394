"""Workers that are killed with all their processes, again and again, while batches run (T1, T2, T20)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from celery_batches_notify.membership import State
from tests.chaos.own_server import OwnServer
from tests.chaos.scene import Scene, is_full

KINDS = ("ok", "retry", "die")
WEIGHTS = (90, 8, 2)
BATCHES, MEMBERS = (200, 500) if is_full() else (20, 100)


def publish(scene: Scene, batches: int, members: int) -> None:
    """Half of the batches have members that fail; the others can succeed."""
    for n in range(batches):
        kinds = scene.draw.choices(KINDS, WEIGHTS, k=members) if n % 2 else ["ok"] * members
        scene.batch(kinds, lambda: scene.draw.uniform(0, 0.06))


def test_batches_stay_exact_while_workers_are_killed_every_two_seconds(
    start_server: Callable[..., OwnServer], set_scene: Callable[..., Scene]
) -> None:
    store, broker = start_server("store"), start_server("broker")
    scene = set_scene(store.url, broker.url)
    for pool in ("prefork", "threads", "prefork") if is_full() else ("prefork", "threads"):
        scene.fleet.add(pool)
    publish(scene, BATCHES, MEMBERS)
    with scene.storm(scene.kills(), every_seconds=2):
        scene.wait(24 * 3600 if is_full() else 45)
    scene.wait(60)
    scene.verdict()


@pytest.mark.parametrize("lost_members", ["dead", "resend"])
def test_members_that_died_with_their_message_end_when_the_lease_does(
    start_server: Callable[..., OwnServer], set_scene: Callable[..., Scene], lost_members: str
) -> None:
    """Celery's default: a message is acknowledged as its task begins, so nobody hands it out again."""
    conf = {
        "task_acks_late": False,
        "task_reject_on_worker_lost": None,
        "batches_worker_lease": 5,
        "batches_lost_members": lost_members,
    }
    scene = set_scene(start_server("store").url, start_server("broker").url, **conf)
    for pool in ("prefork", "threads"):
        scene.fleet.add(pool)
    batches, members = (20, 200) if is_full() else (4, 50)
    for _ in range(batches):
        scene.batch(["ok"] * members, lambda: scene.draw.uniform(0, 0.3))
    with scene.storm(scene.kills(), every_seconds=3):
        scene.wait(3600 if is_full() else 14)
    scene.wait(40)
    ledgers = scene.verdict(may_lose=True)
    lines = [line for ledger in ledgers for line in ledger.lines.values()]
    dead = [line for line in lines if line.state == State.DEAD]
    unended = [line for line in lines if line.starts and not line.ends]
    print(f"{len(dead)} members are dead, {len(unended)} began and did not end")
    # A message is acknowledged right before its task's first line, so a kill may fall in between.
    assert sum(not line.starts for line in dead) <= 2 * scene.fleet.deaths
    if lost_members == "resend":
        assert not dead

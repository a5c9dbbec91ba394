"""Which workers count as lost if clocks are set or differ: on real stores with a shifted clock.

Time passes on the store's clock and on the sweeper's own; setting a clock sets the store's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery

from celery_batches_notify import Batch, Batches
from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.headers import header_of
from celery_batches_notify.store.workers import pack_record
from tests.support.servers import wait_until
from tests.support.topologies import MASTER_NAME, PASSWORD, Guarded, Node, cluster, has_all, nodes, sentinel

LEASE, BEAT, SWEEP = 20, 5, 10
FAR = 60  # after so long without a beat a worker looks lost


def told() -> None:
    """Be a member."""


class Scene:
    """Workers that send beats while they live; one of them sweeps."""

    def __init__(self, app: Celery, servers: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
        self.app, self.store = app, app._batches_extension.engine.store
        self.heartbeat = app._batches_extension.engine.heartbeat
        self._lost = app._batches_extension.engine.sweeper._lost
        self._clocks = [node.clock for node in servers if node.clock]
        self._passed = 0.0
        monkeypatch.setattr(self.heartbeat, "_clock", lambda: time.monotonic() + self._passed)
        self.living: set[str] = set()
        self.batches: dict[str, Batch] = {}
        self.heartbeat.name("sweeper")

    def hold(self, wid: str) -> None:
        """Let a worker begin a member, acknowledged early, and stay alive."""
        batch = self.batches[wid] = Batch(app=self.app)
        (result,) = batch.add(self.app.tasks["told"].s())
        member = Membership(bid=batch.bid, index=0, task_id=result.id)
        head = {"batches": header_of(member), "task": "told", "retries": 0}
        self.living.add(wid)
        self._beat()
        self.store.write_records(wid, {f"{result.id} 0.0.0.0": pack_record(head, b"")})

    def set_clocks(self, by: float) -> None:
        for clock in self._clocks:
            clock.set(clock.ahead + by)

    def pass_time(self, seconds: int) -> None:
        """Let time pass: living workers send beats, and the sweeper sweeps after each of its own."""
        for _ in range(seconds // BEAT):
            self._passed += BEAT
            self.set_clocks(BEAT)
            self._beat()
            self.reap()

    def reap(self) -> None:
        self._lost.reap()

    def is_dead(self, wid: str) -> bool:
        return self.batches[wid].status().dead == 1

    def _beat(self) -> None:
        for wid in self.living:
            self.store.beat_worker(wid)
        self.heartbeat.beat()


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    @contextmanager
    def play(url: str, servers: list[Node], **options: object) -> Iterator[Scene]:
        app = Celery("scene", broker="memory://", set_as_current=False)
        app.conf.update(batches_backend_url=url, batches_backend_options=options, batches_worker_lease=LEASE)
        Batches(app)
        app.task(told, name="told", shared=False)
        try:
            scene = Scene(app, servers, monkeypatch)
            for wid in ("living", "lost"):
                scene.hold(wid)
            scene.pass_time(LEASE + SWEEP)
            assert not scene.is_dead("living") and not scene.is_dead("lost")
            yield scene
            scene.heartbeat.stop()
        finally:
            app.close()
            app._batches_extension.reset()

    return play


@pytest.fixture(scope="module")
def single() -> Iterator[Node]:
    with nodes(1, ahead=[0]) as (node,):
        node.start()
        yield node


@pytest.mark.parametrize("step", [3600, FAR, 15, -15, -19, -FAR, -600, -3600])
def test_a_store_whose_clock_is_set_buries_nobody_who_lives_and_whoever_does_not(
    single: Node, play: Callable[..., Any], step: int
) -> None:
    single.command("FLUSHALL")
    with play(f"redis://127.0.0.1:{single.port}", [single]) as scene:
        scene.living.remove("lost")
        scene.set_clocks(step)
        scene.reap()  # before the next beat of any worker
        assert not scene.is_dead("living") and not scene.is_dead("lost")
        waited = 0
        while not scene.is_dead("lost") and waited < 4 * LEASE:
            scene.pass_time(BEAT)
            waited += BEAT
        assert not scene.is_dead("living")
        # A clock that is set back by less than a lease makes the last beat of a lost worker look newer.
        younger = -step if -LEASE < step < 0 else 0
        assert waited <= LEASE + SWEEP + younger


def test_a_replica_that_is_ahead_and_takes_over_buries_nobody_who_lives(play: Callable[..., Any]) -> None:
    with sentinel(ahead=[0, FAR]) as guarded:
        options = {"master_name": MASTER_NAME, "password": PASSWORD}
        with play(guarded.url, guarded.servers, **options) as scene:
            scene.living.remove("lost")
            fail_over(guarded, scene)
            scene.reap()
            assert not scene.is_dead("living") and not scene.is_dead("lost")
            scene.pass_time(LEASE + SWEEP)
            assert scene.is_dead("lost") and not scene.is_dead("living")


def fail_over(guarded: Guarded, scene: Scene) -> None:
    """Promote the replica, as an operator does, and point every client at it."""
    old, new = guarded.servers
    with old.client() as master, new.client() as replica:
        wait_until(lambda: has_all(replica, master), what="the replica")
    guarded.sentinels[0].command("SENTINEL", "FAILOVER", MASTER_NAME)
    wait_until(lambda: guarded.master() is new, what="the failover")

    def is_there() -> bool:
        scene.store.client.connection_pool.disconnect()
        return bool(scene.store.client.time()[0] - time.time() > FAR / 2)

    wait_until(is_there, what="the client at the new master")


@pytest.fixture(scope="module")
def nodes_that_differ() -> Iterator[list[Node]]:
    with cluster(ahead=(0, 0, 0)) as made:
        yield made


@pytest.mark.parametrize("ahead", [(0, FAR, -FAR), (FAR, -FAR, 0), (-FAR, 0, FAR)])
def test_a_cluster_whose_nodes_differ_buries_nobody_who_lives(
    nodes_that_differ: list[Node], play: Callable[..., Any], ahead: tuple[int, ...]
) -> None:
    for node, seconds in zip(nodes_that_differ, ahead, strict=True):
        assert node.clock
        node.clock.set(seconds)
        node.command("FLUSHALL")
    url = ";".join(f"redis://127.0.0.1:{node.port}" for node in nodes_that_differ)
    with play(url, nodes_that_differ, cluster=True) as scene:
        beats = scene.store.read_beats()
        assert [b.wid for b in beats if abs(b.seconds_ago) > LEASE] == [], "that is another node's time"
        scene.living.remove("lost")
        scene.pass_time(LEASE + SWEEP)
        assert scene.is_dead("lost") and not scene.is_dead("living")

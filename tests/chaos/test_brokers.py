"""What brokers do to messages (T18, T20, T42): repeats, and a broker that is away."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.chaos.own_server import OwnServer
from tests.chaos.scene import EVENTS, REDIS_BROKER, Scene, is_full
from tests.support.servers import need, rabbitmq_url, wait_until

KINDS, WEIGHTS = ("ok", "retry", "die"), (90, 8, 2)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_batches_stay_exact_over_rabbitmq_while_workers_are_killed(
    start_server: Callable[..., OwnServer], set_scene: Callable[..., Scene], pool: str
) -> None:
    broker = rabbitmq_url()
    need("RabbitMQ", broker)
    scene = set_scene(start_server("store").url, broker)
    for _ in range(2):
        scene.fleet.add(pool)
    batches, members = (200, 500) if is_full() else (6, 100)
    for n in range(batches):
        kinds = scene.draw.choices(KINDS, WEIGHTS, k=members) if n % 2 else ["ok"] * members
        scene.batch(kinds, lambda: scene.draw.uniform(0, 0.05))
    with scene.storm(scene.kills(), every_seconds=2.5):
        scene.wait(24 * 3600 if is_full() else 12)
    scene.wait(60)
    scene.verdict()


def test_a_message_that_is_handed_out_again_while_it_runs_is_counted_once(
    start_server: Callable[..., OwnServer], set_scene: Callable[..., Scene]
) -> None:
    """The visibility timeout is shorter than the task: each runs several times at once (T18)."""
    members, seconds = (50, 5.0) if is_full() else (20, 4.0)
    transport = {**REDIS_BROKER, "visibility_timeout": 1}
    broker = start_server("broker").url
    scene = set_scene(start_server("store").url, broker, broker_transport_options=transport)
    for _ in range(2):
        scene.fleet.add("threads", concurrency=members * 3)
    scene.batch(["ok"] * members, lambda: seconds)
    scene.wait(60)
    wait_until(lambda: scene.count("report", "succeeded", "repeated") >= members, what="the repeats")
    (ledger,) = scene.verdict()
    assert sum(line.starts for line in ledger.lines.values()) >= 2 * members
    assert Counter(ledger.tokens) == {"+": members, "!": 1, "$": 1}


def test_a_broker_that_is_away_when_a_batch_ends_delays_its_callbacks_only(
    start_server: Callable[..., OwnServer], set_scene: Callable[..., Scene]
) -> None:
    broker = start_server("broker")
    scene = set_scene(start_server("store").url, broker.url)
    scene.fleet.add("prefork", concurrency=4)
    batch = scene.batch(["ok"] * 4, lambda: 6.0)
    wait_until(lambda: scene.count("start") == 4, what="the members")
    broker.kill()
    wait_until(lambda: batch.status().state == "success", what="the count")
    away_seconds = 60 if is_full() else 6
    time.sleep(away_seconds)
    assert scene.count("called") == 0
    broker.start()
    began = time.monotonic()
    scene.wait(60)
    waited = time.monotonic() - began
    print(f"told {waited:.1f} s after the broker came back from {away_seconds} s")
    (ledger,) = scene.verdict()
    assert sorted(ledger.called) == sorted(
        f"cb_{batch.bid}_{event}_0" for event in EVENTS if event != "death"
    )
    assert waited < 35


def test_a_callback_that_fails_three_times_is_delivered_at_the_fourth(
    start_server: Callable[..., OwnServer], set_scene: Callable[..., Scene]
) -> None:
    transport = {**REDIS_BROKER, "visibility_timeout": 3600}  # nobody dies here
    broker = start_server("broker").url
    scene = set_scene(start_server("store").url, broker, broker_transport_options=transport)
    scene.fleet.add("threads")
    batch = scene.declare()
    batch.on("success", scene.app.tasks["chaos.told"].s("success", failures=3))
    with batch:
        members = {scene.call(batch, "ok").id: "ok"}
    wait_until(
        lambda: [c.state for c in batch.status().callbacks if c.event == "success"] == ["delivered"] * 2
    )
    again = [e.words for e in scene.journal.read() if e.id == f"cb_{batch.bid}_success_1"]
    assert [words[2] for words in again] == ["0", "1", "2", "3"]
    assert members.keys() == {e.id for e in scene.journal.read() if e.kind == "ok"}

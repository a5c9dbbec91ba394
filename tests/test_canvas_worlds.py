"""Canvases whose members are delivered twice or killed, or get headers from Sentry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from celery import chain, chord, group
from redis import Redis

from celery_batches_notify import Batch
from tests.projects.canvas_tasks import send_twice
from tests.support.canvas_runs import WAYS, Runs, Setting, canvas_setting, check, run_all, start, stored
from tests.support.canvas_shapes import SHAPES, Shape
from tests.support.servers import ROOT, need, wait_until

pytestmark = pytest.mark.timeout(300)


# -- Sentry ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def under_sentry(server_url: str) -> Iterator[tuple[Setting, dict[tuple[str, str], str]]]:
    need("sentry-sdk", find_spec("sentry_sdk"))
    world = {
        "BATCHES_TEST_WORLD": "sentry",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }
    with canvas_setting(server_url, "prefork", server_url, **world) as setting:
        env = {
            **os.environ,
            **world,
            "BATCHES_TEST_URL": server_url,
            "BATCHES_TEST_BACKEND": server_url,
            "BATCHES_TEST_QUEUE": setting.app.conf.task_default_queue,
        }
        script = [sys.executable, "-m", "tests.projects.canvas_under_sentry"]
        done = subprocess.run(script, env=env, capture_output=True, check=False, timeout=200)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        runs = json.loads(done.stdout.splitlines()[-1])
        yield setting, {(name, way): bid for name, way, bid in runs}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_shape_counts_the_same_with_sentrys_inner_headers(
    under_sentry: tuple[Setting, dict[tuple[str, str], str]], shape: Shape, way: str
) -> None:
    setting, bids = under_sentry
    batch = Batch.get(bids[shape.name, way], app=setting.app)
    check(batch, total=shape.total, dead=shape.dead)


def test_sentry_does_put_headers_into_the_headers(
    under_sentry: tuple[Setting, dict[tuple[str, str], str]], server_url: str
) -> None:
    setting, _ = under_sentry
    redis = Redis.from_url(server_url)
    seen = redis.smembers(f"inner headers {setting.app.conf.task_default_queue}")
    redis.close()
    assert {b"sentry-trace", b"batches"} <= seen


# -- every message twice --------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["prefork", "threads"])
def twice(request: pytest.FixtureRequest, server_url: str) -> Iterator[tuple[Setting, Runs]]:
    with canvas_setting(server_url, request.param, server_url, BATCHES_TEST_WORLD="twice") as setting:
        send_twice(setting.app)
        yield setting, run_all(setting, SHAPES)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_shape_delivered_twice_ends_once_with_all_its_parts_and_leaves_nothing(
    twice: tuple[Setting, Runs], shape: Shape, way: str
) -> None:
    """Tasks that Celery calls under a new id in each run (links, parts of replacements) are new members."""
    _, runs = twice
    held = stored(runs[shape.name, way])
    total = int(held["total"])
    assert total >= shape.total
    assert total == shape.total or not shape.fixed_ids
    check(runs[shape.name, way], total=total, dead=max(shape.dead, int(held["dead"])) if shape.dead else 0)


# -- killed between publishing a successor and reporting ------------------------------------------

LATE_ACKS = [
    Shape(name="a link of a chain", build=lambda p: chain(p.t.s(), p.kills.s(), p.t.s()), total=3),
    Shape(
        name="a late link of a chain",
        build=lambda p: chain(p.t.s(), p.t.s(), p.kills.s(), p.t.s()),
        total=4,
    ),
    Shape(name="a link=, called again", build=lambda p: p.t.s().set(link=p.kills.s()), total=3),
    Shape(
        name="a canvas that replaces it, called again", build=lambda p: p.replaced.s("chain kills"), total=6
    ),
    Shape(
        name="a chord's body",
        build=lambda p: chord([p.t.s(), p.t.s()], chain(p.kills.s(), p.t.s())),
        total=4,
        chords=1,
    ),
    Shape(
        name="a chord's body in a chain",
        build=lambda p: chain(p.t.s(), group(p.t.s(), p.t.s()), p.kills.s(), p.t.s()),
        total=5,
        chords=1,
    ),
]


@pytest.mark.parametrize("shape", LATE_ACKS, ids=lambda shape: shape.name)
def test_a_member_killed_before_it_reports_its_successor_counts_once_if_redelivered(
    late_acks: Runs, shape: Shape
) -> None:
    batch = late_acks[shape.name, WAYS[0]]
    check(batch, total=shape.total + shape.chords, dead=0)


@pytest.fixture(scope="module")
def late_acks(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Celery takes a stored success for the end of the whole task if the backend does not count chords."""
    backend = f"file://{tmp_path_factory.mktemp('results')}"
    with canvas_setting(server_url, "prefork", backend, BATCHES_TEST_WORLD="kill, late acks") as setting:
        yield run_all(setting, LATE_ACKS)


def test_a_successor_counts_though_the_member_that_published_it_is_lost_and_dead(
    server_url: str,
) -> None:
    with canvas_setting(server_url, "prefork", server_url, BATCHES_TEST_WORLD="kill") as setting:
        shape = Shape(name="lost", build=lambda p: chain(p.t.s(), p.kills.s(), p.t.s()), total=3)
        batch = start(setting, shape, WAYS[0])
        wait_until(lambda: int(stored(batch)["succeeded"]) == 2 and int(stored(batch)["dead"]) == 1)
        held = stored(batch)
        assert (held["total"], "success_at" in held, batch.status().state) == ("3", False, "dead")

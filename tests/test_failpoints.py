"""Failpoints strike at the right place and time, and a wrong name is an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from tests.projects.proj_tasks import declare_tasks
from tests.support.failpoints import POINTS, Trigger, find, parse
from tests.support.servers import ROOT, running_worker


def hits(trigger: Trigger, times: int) -> list[int]:
    return [n for n in range(1, times + 1) if trigger.strikes()]


@pytest.mark.parametrize("name", POINTS)
def test_every_point_is_at_a_method(name: str) -> None:
    owner, method = find(POINTS[name].target)
    assert callable(getattr(owner, method))


@pytest.mark.parametrize("wrong", ["P9", "P1#0", "P1:2", "P1:0", "P1@3", "p1", "W3-maim"])
def test_a_wrong_name_is_an_error(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"failpoint|probability"):
        parse(wrong)


def test_a_point_strikes_at_its_first_hit_or_at_the_one_that_is_named() -> None:
    assert hits(parse("P1"), 5) == [1]
    assert hits(parse("P4#3"), 5) == [3]


def test_a_seed_draws_the_same_again_and_another_one_something_else() -> None:
    assert hits(parse("W2:0.1@7"), 200) == hits(parse("W2:0.1@7"), 200) != hits(parse("W2:0.1@8"), 200)
    assert 5 < len(hits(parse("W2:0.1@7"), 200)) < 50


def test_the_children_of_a_pool_draw_for_themselves_and_the_same_in_the_next_run(tmp_path: Path) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support.failpoints import parse
trigger = parse("W2:0.5@7")
for _ in range(3):
    if (pid := os.fork()) == 0:
        os.write(1, "".join("01"[trigger.strikes()] for _ in range(40)).encode() + b"\\n")
        os._exit(0)
    os.waitpid(pid, 0)
"""
    first, second = (subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2))
    assert first == second
    assert len(set(first.split())) == 3


def test_a_strike_kills_at_once_and_is_logged_before(tmp_path: Path) -> None:
    log = tmp_path / "strikes"
    environment = {
        "PYTHONPATH": str(ROOT),
        "BATCHES_TEST_FAILPOINTS": "P5",
        "BATCHES_TEST_FAILPOINTS_LOG": str(log),
    }
    code = "from tests.support import failpoints; from celery_batches_notify.store.store import Store\n"
    code += "failpoints.arm(); Store.seal_batch(None, 'x')"
    died = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, check=False)
    assert died.returncode == -signal.SIGKILL
    assert log.read_text().split()[-1] == "P5"


@pytest.fixture
def app(make_app: Callable[..., Celery], server_url: str) -> Celery:
    """Return a producer for the workers of `proj.py`, whose webhooks have no receiver."""
    app = make_app(broker=server_url, task_default_queue="celery")
    app.conf.batches_notifications = {"webhook": {"url": "http://127.0.0.1:9/hook"}}
    declare_tasks(app)
    return app


def strike_in_worker(url: str, point: str, log: Path) -> None:
    """Run a worker until it dies at a failpoint."""
    environment = {
        "PYTHONPATH": str(ROOT),
        "BATCHES_TEST_URL": url,
        "BATCHES_TEST_ACKS_LATE": "1",
        "BATCHES_TEST_NOTIFICATIONS": '{"webhook": {"url": "http://127.0.0.1:9/hook"}}',
        "BATCHES_TEST_FAILPOINTS": point,
        "BATCHES_TEST_FAILPOINTS_LOG": str(log),
    }
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tests.projects.proj",
        "worker",
        "-P",
        "solo",
        "--without-mingle",
    ]
    died = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, timeout=60, check=False
    )
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    assert log.read_text().split()[-1] == point


@pytest.mark.parametrize("point", ["W1", "W2", "W3", "W3-main"])
def test_a_worker_dies_where_the_point_says(
    app: Celery, redis: Redis, server_url: str, tmp_path: Path, point: str
) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["proj.ok"].s())
    strike_in_worker(server_url, point, tmp_path / "strikes")
    assert batch.status().succeeded == (0 if point == "W1" else 1)


def test_a_lost_reply_kills_nobody_and_counts_once(app: Celery, redis: Redis, server_url: str) -> None:
    batch = Batch(app=app)
    batch.add(app.tasks["proj.ok"].s())
    with running_worker(server_url, "solo", BATCHES_TEST_FAILPOINTS="W4:0.5@3"):
        assert batch.join(30, "success").succeeded == 1


def test_a_delivery_is_struck_at_every_step_of_its_way(
    app: Celery, redis: Redis, server_url: str, tmp_path: Path
) -> None:
    batch = Batch(app=app).on("success", "webhook")
    batch.add(app.tasks["proj.ok"].s())
    for point in ("W2", "R1", "R2", "N1"):
        strike_in_worker(server_url, point, tmp_path / point)
    (callback,) = batch.status().callbacks
    assert callback.state in ("due", "published"), "whoever had it died before it said more"

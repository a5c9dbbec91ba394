"""Batches beside celery-singleton, celery-once, celery-batches, celery-redbeat and Flower, in one worker."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord

from celery_batches_notify import Batch, InvalidCallback, NotAMember, outside_batch
from celery_batches_notify.testing.server import find_free_port, run_until_we_end
from tests.support.neighbours import RUNS, Beside, beside
from tests.support.servers import wait_until

pytestmark = pytest.mark.timeout(180)

PACKAGES = "celery_singleton celery_once celery_batches redbeat flower"


@pytest.fixture(scope="module")
def together(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    schedule = ("-B", "--scheduler", "redbeat.RedBeatScheduler", "-E")
    with beside(server_url, "together", *schedule, needs=PACKAGES) as batches:
        yield batches


@pytest.fixture
def app(together: Beside) -> Iterator[Celery]:
    with together.app() as app:
        yield app


# -- Flower ---------------------------------------------------------------------------------------


@pytest.fixture
def flower(together: Beside, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Run Flower, and return a function that reads from its API."""
    port = find_free_port()
    command = [sys.executable, "-m", "celery", "-A", "tests.projects.neighbours", "flower"]
    command += ["--address=127.0.0.1", f"--port={port}"]
    env = {**together.process_environment(), "FLOWER_UNAUTHENTICATED_API": "true"}

    def read(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                return answer.read().decode()
        except OSError:
            return None

    with (tmp_path / "log").open("wb") as out, run_until_we_end(command, env=env, stdout=out, stderr=out):
        wait_until(lambda: read("/healthcheck"), seconds=60, what="Flower")
        yield read


def test_flower_shows_each_member_and_callback_with_its_state(
    together: Beside, flower: Callable[[str], Any]
) -> None:
    together.produce()
    together.check_counts()
    ids = {run["id"] for run in together.runs()}

    def seen() -> Counter[tuple[str, str]]:
        tasks = json.loads(flower("/api/tasks") or "{}")
        return Counter((task["name"], task["state"]) for uid, task in tasks.items() if uid in ids)

    wanted = {("ok", "SUCCESS"): RUNS["ok"], ("callback", "SUCCESS"): RUNS["callback"]}
    wanted |= {("fail", "FAILURE"): 1, ("retry_once", "SUCCESS"): 1, ("fail_once", "SUCCESS"): 1}
    wait_until(lambda: seen() == wanted, what="Flower's list of all tasks")
    assert flower("/tasks")


# -- celery-redbeat -------------------------------------------------------------------------------


def test_redbeat_starts_batches_on_its_schedule(together: Beside, app: Celery) -> None:
    from celery.schedules import schedule
    from redbeat import RedBeatSchedulerEntry

    entry = RedBeatSchedulerEntry("start", "start", schedule(1), app=app).save()
    try:
        wait_until(lambda: together.kept("callbacks").count(["by beat", "success"]) >= 2)
    finally:
        entry.delete()
    [status, *_] = [
        b.status() for b in Batch.all(app=app) if b.description == "by beat" and b.status().success_at
    ]
    assert (status.total, status.succeeded) == (3, 3)


# -- celery-singleton and celery-once -------------------------------------------------------------


@pytest.mark.parametrize("name", ["single", "once"])
def test_equal_calls_under_a_lock_are_one_member(app: Celery, name: str) -> None:
    task = app.tasks[name]
    batch = Batch(app=app)
    with batch:
        task.apply_async(("same",), **quiet(name))
        task.apply_async(("same",), **quiet(name))
        task.apply_async(("other",), **quiet(name))
    status = batch.join(timeout=60)
    assert (status.total, status.succeeded) == (2, 2)


@pytest.mark.parametrize("name", ["single", "once"])
@pytest.mark.parametrize("way", ["block", "add", "map"])
def test_a_lock_does_not_outlive_a_call_that_never_left(app: Celery, name: str, way: str) -> None:
    task, value = app.tasks[name], f"never left, {way}"

    def values() -> Iterator[str]:
        yield value
        raise RuntimeError("stop")

    batch = Batch(app=app)
    with pytest.raises((RuntimeError, NotAMember)):
        if way == "block":
            with batch:
                task.delay(value)
                raise RuntimeError("stop")
        elif way == "add":
            batch.add(task.s(value), app.tasks["buffered"].s(1))
        else:
            batch.starmap(Stopping(task), [(value,), (None,)])
    again = Batch(app=app)
    with again:
        task.delay(value)
    status = again.join(timeout=60)
    assert (status.total, status.succeeded) == (1, 1)


class Stopping:
    """A task whose call without an argument raises."""

    def __init__(self, task: Any) -> None:
        self.task, self.app = task, task.app

    def apply_async(self, arguments: tuple[Any, ...]) -> Any:
        if arguments == (None,):
            raise RuntimeError("stop")
        return self.task.apply_async(arguments)


def quiet(name: str) -> dict[str, Any]:
    return {"once": {"graceful": True}} if name == "once" else {}


# -- celery-batches -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["delay", "chain", "chord", "add", "map"])
def test_a_buffered_task_is_refused_when_it_is_called(app: Celery, way: str, tmp_path: Path) -> None:
    app.conf.result_backend = f"file://{tmp_path}"
    buffered, ok = app.tasks["buffered"], app.tasks["ok"]
    batch = Batch(app=app)
    with pytest.raises(NotAMember, match=r"buffered is a task of celery-batches, .*outside_batch"):
        if way == "add":
            batch.add(ok.s(1), buffered.s(1))
        elif way == "map":
            batch.map(buffered, range(3))
        else:
            with batch:
                if way == "delay":
                    buffered.delay(1)
                elif way == "chain":
                    chain(ok.s(1), ok.s(), buffered.s()).delay()
                else:
                    chord([ok.s(1), ok.s(2)], buffered.s()).delay()
    assert batch.bid not in {each.bid for each in Batch.all(app=app)}


def test_a_buffered_task_is_refused_as_a_callback(app: Celery) -> None:
    with pytest.raises(InvalidCallback, match="buffered is a task of celery-batches"):
        Batch(app=app).on("success", chain(app.tasks["ok"].si(), app.tasks["buffered"].s()))


def test_buffered_calls_outside_the_batch_run_beside_its_members(together: Beside, app: Celery) -> None:
    batch = Batch(app=app)
    with batch:
        app.tasks["ok"].delay(1)
        with outside_batch():
            app.tasks["buffered"].delay("a")
            app.tasks["buffered"].delay("b")
    status = batch.join(timeout=60)
    assert (status.total, status.succeeded) == (1, 1)
    wait_until(lambda: sorted(value for some in together.kept("buffered") for value in some) == ["a", "b"])

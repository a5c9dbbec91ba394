"""Callbacks that are tasks, in real workers: lost with their process, silent, or retried."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from celery import Celery, chord
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.testing.server import embedded_server
from tests.support.apps import open_app
from tests.support.servers import running_worker, wait_until

HOUR_MS = 3600 * 1000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with embedded_server() as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Redis]:
    client = Redis.from_url(url)
    yield client
    client.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"file://{tmp_path_factory.mktemp('results')}"


@pytest.fixture(scope="module")
def app(url: str, results: str) -> Iterator[Celery]:
    with open_app(url, result_backend=results) as app:
        yield app


@pytest.fixture(scope="module")
def worker(url: str, results: str) -> Iterator[subprocess.Popen[bytes]]:
    with running_worker(url, "prefork", BATCHES_TEST_BACKEND=results) as worker:
        yield worker


def callback(batch: Batch) -> tuple[str, int]:
    (status,) = batch.status().callbacks
    return status.state, status.attempts


def notes(client: Redis, *begin: str) -> list[str]:
    found = [note.decode() for note in client.lrange("notes", 0, -1)]
    return [note for note in found if note.startswith(" ".join(begin))]


def rewrite(client: Redis, batch: Batch, entry: str) -> None:
    """Set an outbox entry, and sweep."""
    client.hset(f"batches:{{{batch.bid}}}:outbox", "success:0", entry)
    client.hset(f"batches:{{{batch.bid}}}", "next_due", 1)


@pytest.mark.parametrize("task", ["proj.die", "proj.die_late"])
def test_a_callback_that_kills_its_process_is_tried_eight_times(
    worker: subprocess.Popen[bytes], app: Celery, client: Redis, task: str
) -> None:
    batch = Batch(app=app).on("success", app.signature(task))
    batch.seal()
    wait_until(lambda: callback(batch) == ("due", 1), what="the loss")
    (line,) = batch.deliveries()
    assert (line.channel, line.outcome, line.detail) == (task, "failed", "its process was lost")
    rewrite(client, batch, "due 7 1")
    wait_until(lambda: callback(batch) == ("given_up", 8), what="giving it up")
    line = batch.deliveries()[-1]
    assert (line.attempt, line.outcome, line.detail) == (8, "given_up", "its process was lost")
    assert len(notes(client, "died", f"cb_{batch.bid}")) == 2, "the broker sends none of its own"
    assert worker.poll() is None


def test_what_a_callback_returns_is_stored_as_ever(
    worker: subprocess.Popen[bytes], app: Celery, client: Redis
) -> None:
    batch = Batch(app=app).on("success", app.tasks["proj.ok"].s())
    batch.seal()
    wait_until(lambda: callback(batch) == ("delivered", 1))
    assert app.AsyncResult(f"cb_{batch.bid}_success_0").get(timeout=30)["bid"] == batch.bid


def test_a_chord_is_called_back_under_its_own_ids(
    worker: subprocess.Popen[bytes], app: Celery, client: Redis
) -> None:
    parts = [app.signature("proj.ran", immutable=True) for _ in range(2)]
    batch = Batch(app=app).on("success", chord(parts, app.signature("proj.ran", immutable=True)))
    batch.seal()
    wait_until(lambda: len(notes(client, "ran", f"cb_{batch.bid}")) == 3, what="all three tasks")
    assert sorted(notes(client, "ran", f"cb_{batch.bid}")) == [
        f"ran cb_{batch.bid}_success_0_{n}" for n in range(3)
    ]
    assert callback(batch) == ("delivered", 1)
    (line,) = batch.deliveries()
    assert (line.channel, line.outcome) == ("proj.ran | proj.ran | proj.ran", "delivered")


def test_a_callback_in_a_silent_worker_without_batches_is_given_up_at_last(
    worker: subprocess.Popen[bytes], app: Celery, client: Redis, url: str
) -> None:
    with running_worker(url, "solo", "-Q", "bare", app="proj_bare"):
        batch = Batch(app=app, expires=60).on("success", app.tasks["proj.callback"].s().set(queue="bare"))
        batch.seal()
        wait_until(lambda: notes(client, "callback", batch.bid), what="its run")
    assert callback(batch) == ("published", 1)
    seconds, _ = client.time()
    rewrite(client, batch, f"published 1 {seconds * 1000 - 7 * 24 * HOUR_MS - 1000}")
    wait_until(lambda: callback(batch) == ("given_up", 1), what="giving it up")
    (line,) = batch.deliveries()
    assert line.outcome == "given_up"
    assert line.detail == "nothing was heard of it since it was published"

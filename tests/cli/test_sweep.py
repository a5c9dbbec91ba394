"""`celery -A proj batch sweep`, run as cron runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from redis import Redis

from celery_batches_notify import Batch
from tests.support.apps import open_app
from tests.support.command_line import celery, install


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("installed"))


def left_behind(url: str, redis: Redis) -> Batch:
    """A batch whose callback is due, and nobody publishes it."""
    with open_app(url) as app:
        batch = Batch(app=app).on("success", app.signature("proj.callback"))
        batch._enrolment.open()
        batch._engine.store.seal_batch(batch.bid)
    redis.hset(f"batches:{{{batch.bid}}}:outbox", "success:0", "due 0 1")
    redis.hset(f"batches:{{{batch.bid}}}", "next_due", 1)
    return batch


def test_what_was_left_behind_is_published_and_told_in_numbers(
    installed: Path, redis: Redis, server_url: str
) -> None:
    batch = left_behind(server_url, redis)
    done = celery(installed, "-A", "tests.projects.proj", "batch", "sweep", BATCHES_TEST_URL=server_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "looked at 1 live batch: 1 callback published, 0 members sent again, 0 without a producer, "
        "0 batches retired, 0 failed\n"
    )
    (message,) = redis.lrange("celery", 0, -1)
    assert json.loads(message)["headers"]["id"] == f"cb_{batch.bid}_success_0"
    assert redis.get("batches:sweeper") is None, "the lock was given back"


def test_while_another_process_sweeps_there_is_nothing_to_do(
    installed: Path, redis: Redis, server_url: str
) -> None:
    left_behind(server_url, redis)
    redis.set("batches:sweeper", "another", ex=60)
    done = celery(installed, "-A", "tests.projects.proj", "batch", "sweep", BATCHES_TEST_URL=server_url)
    assert (done.returncode, done.stdout) == (0, "another process is sweeping: nothing to do here\n")
    assert redis.llen("celery") == 0
    assert redis.get("batches:sweeper") == b"another"


def test_a_batch_that_cannot_be_swept_is_told_by_the_exit_code(
    installed: Path, redis: Redis, server_url: str
) -> None:
    batch = left_behind(server_url, redis)
    redis.hset(f"batches:{{{batch.bid}}}", "schema", 99)
    done = celery(installed, "-A", "tests.projects.proj", "batch", "sweep", BATCHES_TEST_URL=server_url)
    assert done.returncode == 1
    assert "1 failed" in done.stdout


def test_a_store_that_is_away_is_one_line_and_exit_code_69(installed: Path) -> None:
    url = "redis://user:s3cret-word@127.0.0.1:1/0"
    done = celery(installed, "-A", "tests.projects.proj", "batch", "sweep", BATCHES_TEST_URL=url)
    assert (done.returncode, done.stdout) == (69, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: the batches' store at redis://user:**@127.0.0.1:1/0 does not answer")
    assert "s3cret" not in done.stderr


def test_an_app_without_batches_is_told_so(installed: Path) -> None:
    done = celery(installed, "batch", "sweep")
    assert done.returncode == 2
    assert "has no batches: call Batches(app) once, beside the app, and name that app" in done.stderr

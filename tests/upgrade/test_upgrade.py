"""What an older commit wrote ends with today's workers: see `make_fixture.py`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, Batches, BatchStatus
from celery_batches_notify.settings import Settings
from celery_batches_notify.worker.spool import spool_of
from tests.support.acl import url_as
from tests.support.http_server import serving
from tests.support.servers import close_store, running_worker, wait_until
from tests.support.smtp_server import serving_smtp

BEFORE = json.loads(Path(__file__).with_name("before.json").read_text())
# description: state, total, succeeded, dead, and the callbacks that ran
ENDS = {
    "open": ("success", 2, 2, 0, "complete success"),
    "sealed": ("dead", 3, 2, 1, "death complete finish"),
    "parent": ("success", 2, 2, 0, "complete finish success"),
    "child": ("success", 1, 1, 0, "success"),
    "chain": ("success", 3, 3, 0, "success"),
    "chord": ("success", 3, 3, 0, "success"),
    "cancelled": ("cancelled", 1, 0, 1, "cancel finish"),
    "kept calls": ("success", 2, 2, 0, "success"),
    "named": ("success", 1, 1, 0, "success"),
    "late": ("success", 1, 1, 0, "deadline"),
    "running": ("success", 2, 2, 0, "finish success"),
    "dead": ("success", 3, 3, 0, "death finish success"),
    "succeeded": ("success", 1, 1, 0, "complete success"),
    "published": ("success", 1, 1, 0, "success"),
    "retrying": ("success", 1, 1, 0, "complete success"),
    "mail failed": ("success", 1, 1, 0, ""),
    "due": ("success", 1, 1, 0, "success"),
    "spooled": ("success", 3, 3, 0, "finish success"),
    "abandoned": ("dead", 1, 1, 0, "finish"),
}
MAILS = {"sealed", "published", "mail failed", "due"}
HOOKS = {"sealed", "published"}


def load(client: Redis) -> None:
    """Write the fixture's keys, which go on living for as long as they would have lived."""
    for key, value in BEFORE["keys"].items():
        name = key.encode("latin-1")
        client.execute_command(value["command"], name, *(part.encode("latin-1") for part in value["parts"]))
        if value["pttl"] > 0:
            client.pexpire(name, value["pttl"])


def lay_spool(app: Celery) -> None:
    """Write the fixture's spool to where today's workers look."""
    place = spool_of(Settings.from_app(app)).path
    place.mkdir(mode=0o700)
    for name, text in BEFORE["spool"].items():
        (place / name).write_text(text)


@pytest.mark.timeout(240)
def test_everything_of_the_commit_before_ends(server_url: str, redis: Redis, tmp_path: Path) -> None:
    load(redis)
    redis.set("healed", 1)
    with serving_smtp() as mails, serving() as hooks, app_for(server_url, tmp_path) as app:
        lay_spool(app)
        batches = {batch.status().description: batch for batch in Batch.all(app=app)}
        assert batches.keys() == ENDS.keys()
        batches["open"].seal()
        batches["dead"].retry()
        with todays_worker(server_url, tmp_path, mails.port, hooks.url):
            for name, batch in batches.items():
                wait_until(lambda b=batch: has_ended(b.status()), seconds=60, what=f"the end of {name}")
        ends = {name: show(batch.status()) for name, batch in batches.items()}
    assert ends == {
        name: (*counts, {"delivered"} if callbacks or name in MAILS else set())
        for name, (*counts, callbacks) in ENDS.items()
    }
    told = Counter(note.decode() for note in redis.lrange("notes", 0, -1) if note.startswith(b"told"))
    assert told == {f"told {name} {event}": 1 for name, (*_, on) in ENDS.items() for event in on.split()}
    assert sorted(hook.json["description"] for hook in hooks.received) == sorted(HOOKS)
    subjects = [mail.message["Subject"] for mail in mails.received]
    assert sorted(name for subject in subjects for name in MAILS if name in subject) == sorted(MAILS)


@contextmanager
def app_for(url: str, spool: Path) -> Iterator[Celery]:
    """Yield an app of today that sends to the broker of the fixture."""
    app = Celery("upgrade", broker=url, set_as_current=False)
    app.conf.update(batches_backend_url=url_as(url), batches_spool_dir=str(spool))
    Batches(app)
    yield app
    close_store(app)
    app.close()


def todays_worker(url: str, spool: Path, smtp_port: int, hook: str) -> AbstractContextManager[object]:
    """Run a worker of today on what the worker before left."""
    server = {"address": "127.0.0.1", "port": smtp_port, "authentication": None}
    channels = {
        "email": {
            "to": "ops@example.com",
            "from": "celery@example.com",
            "via": "smtp",
            "via_options": server,
        },
        "webhook": {"url": hook},
    }
    environment = {"BATCHES_TEST_NOTIFICATIONS": json.dumps(channels), "BATCHES_TEST_SPOOL": str(spool)}
    return running_worker(url, "prefork", "-Q", "celery,now,hold", app="upgrade_app", **environment)


def has_ended(status: BatchStatus) -> bool:
    """Return whether all of a batch's members have ended, and all callbacks that fired have run."""
    ends = ENDS[status.description]
    counts = (status.total, status.succeeded, status.dead)
    return counts == ends[1:4] and all(each.state not in ("due", "published") for each in status.callbacks)


def show(status: BatchStatus) -> tuple[object, ...]:
    """Return a status in the form of `ENDS`, with the states of its callbacks that fired."""
    fired = {each.state for each in status.callbacks} - {"waiting"}
    return (status.state, status.total, status.succeeded, status.dead, fired)


def test_callbacks_that_schema_1_has_in_the_hash_are_found(app: Celery, redis: Redis) -> None:
    app.task(ok, name="ok", shared=False)
    batch = Batch(keep_open=True, app=app).on("success", app.tasks["ok"].s())
    batch.add(app.tasks["ok"].si())
    key = f"batches:{{{batch.bid}}}"
    redis.hset(key, mapping={"schema": 1, "callbacks": redis.getdel(f"{key}:callbacks")})
    assert [each.target for each in batch.status().callbacks] == ["ok"]


def test_a_process_that_knows_only_schema_1_leaves_todays_batches_alone(app: Celery, redis: Redis) -> None:
    app.task(ok, name="ok", shared=False)
    batch = Batch(keep_open=True, app=app)
    batch.add(app.tasks["ok"].si())
    assert redis.hget(f"batches:{{{batch.bid}}}", "schema") == b"2"


def ok(*_: object) -> None:
    """Succeed."""

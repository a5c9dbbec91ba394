"""The spool's plain successes share calls, and each counts once, whatever happens around a call."""

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

from celery_batches_notify import Batch, StoreUnavailable
from celery_batches_notify.engine import Engine
from celery_batches_notify.membership import JUST_SUCCEEDED, Membership, Outcome, State
from celery_batches_notify.worker.spool_records import Report, pack_line
from tests.support.away import spooled
from tests.support.scripts import listening
from tests.support.servers import ROOT, wait_until


@pytest.fixture
def app(make_app: Callable[..., Celery], server_url: str, tmp_path: Path) -> Celery:
    app = make_app(batches_backend_url=server_url, batches_spool_dir=tmp_path)
    app.task(told, name="told", shared=False)
    return app


@pytest.fixture
def engine(app: Celery) -> Engine:
    return app._batches_extension.engine


def told(*_: object) -> None:
    """Be called back."""


def spool_members(app: Celery, engine: Engine, n: int) -> tuple[Batch, list[Membership]]:
    """Leave the successes of a batch's members in the spool."""
    batch = Batch(app=app).on("success", app.tasks["told"].s())
    results = batch.add(*(app.tasks["told"].s() for _ in range(n)))
    members = [Membership(bid=batch.bid, index=i, task_id=r.id) for i, r in enumerate(results)]
    for member in members:
        engine.reporter._spool.append(pack_line(Report(member=member, outcome=JUST_SUCCEEDED)))
    return batch, members


def test_successes_of_a_batch_share_calls_and_send_a_token_each(
    app: Celery, engine: Engine, redis: Redis, tmp_path: Path
) -> None:
    batch, _ = spool_members(app, engine, 450)
    redis.config_resetstat()
    with listening(engine.store) as heard:
        engine.replay.replay()
        assert heard() == "+" * 450 + "!$"
    assert batch.status().state == "success"
    assert not spooled(tmp_path)
    reports = redis.info("commandstats")["cmdstat_hmget"]["calls"]
    assert reports < 100, "450 reports did not share calls"
    wait_until(lambda: batch.status().callbacks[0].state == "published")


def test_of_a_group_each_outcome_is_counted_that_is_no_plain_success(
    app: Celery, engine: Engine, tmp_path: Path
) -> None:
    batch, members = spool_members(app, engine, 6)
    other = Batch(app=app)
    results = other.add(*(app.tasks["told"].s() for _ in range(4)))
    for index, (result, state) in enumerate(zip(results, (3, 1, 2, 3), strict=True)):
        member = Membership(bid=other.bid, index=index, task_id=result.id)
        report = Report(member=member, outcome=Outcome(state=State(state), reason="failed"))
        engine.reporter._spool.append(pack_line(report))
    engine.replay.replay()
    assert batch.status().succeeded == len(members)
    assert (other.status().succeeded, other.status().failures, other.status().dead) == (2, 2, 1)
    assert not spooled(tmp_path)


def test_a_damaged_batch_keeps_no_other_batch_of_the_spool_from_being_counted(
    app: Celery, engine: Engine, redis: Redis, tmp_path: Path
) -> None:
    damaged, _ = spool_members(app, engine, 4)
    well, _ = spool_members(app, engine, 4)
    redis.delete(f"batches:{{{damaged.bid}}}:states")
    redis.hset(f"batches:{{{damaged.bid}}}:states", "no", "string")
    redis.expire(f"batches:{{{damaged.bid}}}:states", 60)
    engine.replay.replay()
    assert well.status().state == "success"
    assert not spooled(tmp_path)


def test_a_lost_answer_counts_nothing_twice(
    app: Celery, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, _ = spool_members(app, engine, 20)
    record = type(engine.store).record_successes

    def lose_answer(*args: object) -> None:
        record(*args)
        raise StoreUnavailable("the reply was lost")

    monkeypatch.setattr(type(engine.store), "record_successes", lose_answer)
    with listening(engine.store) as heard:
        engine.replay.replay()
        assert heard() == "+" * 20 + "!$"
    assert batch.status().succeeded == 20
    assert not spooled(tmp_path)


def test_a_worker_killed_after_a_shared_call_loses_and_doubles_nothing(
    app: Celery, engine: Engine, server_url: str, tmp_path: Path
) -> None:
    batch, members = spool_members(app, engine, 30)
    code = (
        "from celery import Celery; from celery_batches_notify import Batches\n"
        "from tests.support import failpoints\n"
        "failpoints.arm('S1'); app = Celery('killed', broker='memory://')\n"
        f"app.conf.update(batches_backend_url={server_url!r}, batches_spool_dir={str(tmp_path)!r})\n"
        "Batches(app); app._batches_extension.engine.replay.replay()"
    )
    with listening(engine.store) as heard:
        died = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
        assert batch.status().succeeded == len(members) - 1, "the last one takes a call of its own"
        engine.replay.replay()
        assert heard() == "+" * len(members) + "!$"
    assert batch.status().state == "success"
    assert not spooled(tmp_path)
    wait_until(lambda: batch.status().callbacks[0].state == "published")

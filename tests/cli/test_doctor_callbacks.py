"""What the doctor says of callbacks, of workers without batches, and of batches that nobody looks after."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.doctor import reconcile
from celery_batches_notify.doctor.broker_queues import BrokerReading
from celery_batches_notify.doctor.callbacks import OpenCallback, judge_callback
from celery_batches_notify.doctor.locate import Kind, Place, Whereabouts
from celery_batches_notify.doctor.worker_tasks import WorkersReading, _find_bare
from celery_batches_notify.messages.headers import DELIVER_TASK
from celery_batches_notify.model import CallbackStatus
from tests.support.apps import open_app
from tests.support.servers import need, rabbitmq_url, running_worker, wait_until

Command = Callable[..., "subprocess.CompletedProcess[str]"]
HOUR_MS = 3600 * 1000


def ended(app: Celery, queue: str | None = None) -> Batch:
    """A batch that has ended, and whose callback is published."""
    batch = Batch(app=app, callback_queue=queue).on("success", app.signature("proj.callback"))
    batch.seal()
    return batch


def rewrite(redis: Redis, batch: Batch, state: str, ago_ms: int) -> None:
    """Let the outbox say this of the batch's callback, as it was so long ago."""
    seconds, _ = redis.time()
    redis.hset(f"batches:{{{batch.bid}}}:outbox", "success:0", f"{state} 1 {seconds * 1000 - ago_ms}")


def sentence(output: str) -> str:
    """What was said of the callback."""
    (line,) = (line for line in output.splitlines() if line.startswith("the callback "))
    return line.removeprefix("the callback success:0 (proj.callback) ")


# -- callbacks of one batch -----------------------------------------------------------------------


def test_a_callback_in_a_queue_that_no_worker_reads_needs_hands(
    app: Celery, redis: Redis, server_url: str, batch_command: Command
) -> None:
    batch = ended(app, "nobody-reads")
    done = batch_command("doctor", batch.bid)
    assert done.returncode == 0, "who has no worker yet is not told so"
    assert sentence(done.stdout).endswith(": in the queue nobody-reads, 0 of 1 before it")
    with running_worker(server_url, "solo", "-Q", "celery"):
        done = batch_command("doctor", batch.bid)
    assert (done.returncode, done.stderr) == (1, "")
    assert "no member is waiting or failing" in done.stdout
    assert sentence(done.stdout).endswith(
        ": in the queue nobody-reads, 0 of 1 before it, and no worker takes from it. "
        "To do: start a worker with -Q nobody-reads, or correct the routing"
    )


def test_where_messages_cannot_be_read_the_queue_is_named_with_its_length(
    redis: Redis, server_url: str, batch_command: Command
) -> None:
    url = rabbitmq_url()
    need("RabbitMQ", url)
    queue, read = f"unread-{uuid4().hex}", f"read-{uuid4().hex}"
    alone = {"client_properties": {"test": queue}}  # or kombu shares a pool with apps that were closed
    with open_app(server_url, broker_url=url, broker_transport_options=alone) as app:
        batch = ended(app, queue)
        with running_worker(server_url, "solo", "-Q", read, BATCHES_TEST_BROKER=str(url)):
            done = batch_command("doctor", batch.bid, BATCHES_TEST_BROKER=str(url))
        with app.connection_for_write() as connection:
            for name in (queue, read):
                connection.default_channel.queue_delete(name)
    assert done.returncode == 1
    assert f": its queue {queue} holds 1 messages, and no worker takes from it. " in done.stdout


@pytest.mark.parametrize(
    ("state", "ago_days", "words", "code"),
    [
        ("due", -10.5, "is due in 10 d", 0),
        ("due", 10.5, "is due since 10 d and nobody publishes it. To do: start a worker", 1),
        (
            "given_up",
            0,
            "was given up. To do: batch show BID --deliveries says why; "
            "then batch redeliver BID --event success",
            1,
        ),
        (
            "published",
            2.5,
            "was published, and nothing was heard of it for 2 d: its message is gone. To do",
            1,
        ),
    ],
    ids=["later", "late", "given up", "lost"],
)
def test_each_callback_that_has_not_ended_is_listed(
    app: Celery, redis: Redis, batch_command: Command, state: str, ago_days: float, words: str, code: int
) -> None:
    batch = ended(app)
    redis.delete("celery")
    rewrite(redis, batch, state, round(ago_days * 24 * HOUR_MS))
    done = batch_command("doctor", batch.bid)
    assert sentence(done.stdout).startswith(words.replace("BID", batch.bid))
    assert done.returncode == code


@pytest.mark.parametrize(
    ("state", "seconds", "words"),
    [
        ("due", 50, "is due"),
        ("due", -50, "is due in 50 s"),
        ("published", 50, "was published, and nothing was heard of it for 50 s: its message is gone"),
    ],
)
def test_what_moves_just_now_needs_no_hands(app: Celery, state: str, seconds: int, words: str) -> None:
    now = datetime.now(UTC)
    status = CallbackStatus(event="success", n=0, target="proj.callback", state=state, attempts=1)
    callback = OpenCallback(
        bid="b" * 22, status=status, since=now - timedelta(seconds=seconds), queue="celery"
    )
    place = Place(member=callback.as_member(0), kind=Kind.VANISHED)
    look = Whereabouts(places=(place,), broker=BrokerReading(readable=True), workers=WorkersReading())
    assert judge_callback(callback, now, look, place) == (words, "")


# -- all batches ----------------------------------------------------------------------------------


def test_a_callback_that_was_given_up_is_named_as_long_as_its_batch_is_there(
    app: Celery, redis: Redis, batch_command: Command
) -> None:
    batch = ended(app)
    store = app._batches_extension.engine.store
    store.settle_delivery(batch.bid, "success:0", "given_up", 1)
    app._batches_extension.engine.sweeper.sweep()
    assert redis.zcard("batches:live") == 0
    done = batch_command("doctor")
    assert done.returncode == 1
    assert f"{batch.bid}: the callback success:0 (proj.callback) was given up. To do: " in done.stdout
    batch.redeliver("success")
    assert batch_command("doctor").returncode == 0


def test_what_was_published_over_an_hour_ago_is_named(
    app: Celery, redis: Redis, batch_command: Command
) -> None:
    batch = ended(app)
    rewrite(redis, batch, "published", HOUR_MS // 2)
    assert batch_command("doctor").returncode == 0
    rewrite(redis, batch, "published", 2 * HOUR_MS)
    done = batch_command("doctor")
    assert done.returncode == 1
    assert "was published, and nothing was heard of it for 2 h. To do: see where it is" in done.stdout


def test_a_batch_that_the_sweepers_list_has_lost_is_named_and_put_back(
    app: Celery, redis: Redis, batch_command: Command
) -> None:
    batch, over = Batch(app=app), ended(app)
    batch.add(app.signature("proj.ok"))
    over._engine.store.settle_delivery(over.bid, "success:0", "delivered", 1)
    app._batches_extension.engine.sweeper.sweep()
    redis.zrem("batches:live", batch.bid)
    done = batch_command("doctor")
    assert done.returncode == 1
    assert f"{batch.bid}: the sweepers' list has lost it: nobody looks after it. To do: " in done.stdout
    assert over.bid not in done.stdout, "one that is over is on no such list"
    assert f"{batch.bid}: 1 lists mended" in batch_command("reconcile").stdout
    assert redis.zrange("batches:live", 0, -1) == [batch.bid.encode()]
    assert batch_command("doctor").returncode == 0


# -- workers without batches ----------------------------------------------------------------------


def test_a_worker_without_batches_is_named_and_keeps_members_from_being_written_off(
    app: Celery, redis: Redis, server_url: str, batch_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "BETWEEN_LOOKS_SECONDS", 0)
    monkeypatch.setattr(reconcile, "QUIET_SECONDS", 0)
    with running_worker(server_url, "solo", "-n", "bare@tests", app="proj_bare"):
        batch = Batch(app=app)
        batch.add(*(app.signature("proj.ok", (n,)) for n in range(3)))
        wait_until(lambda: not redis.exists("celery") and not redis.hlen("unacked"), what="their run")
        everywhere, here = batch_command("doctor"), batch_command("doctor", batch.bid)
        repairs = batch.reconcile(vanished="dead")
    words = (
        "worker bare@tests: it has no batches, so what it runs is not counted. "
        "To do: call Batches(app) in the module that it is started with"
    )
    for done in (everywhere, here):
        assert done.returncode == 1
        assert words in done.stdout.splitlines()
    assert "- 3 unknown: " in here.stdout
    assert repairs.vanished == 0
    assert repairs.notes[-1].endswith("bare@tests has no batches, and does not report what it runs")
    assert batch.status().pending == 3


@pytest.mark.parametrize(
    ("queues", "tasks", "bare"),
    [
        ({"celery"}, ["other.task"], True),
        ({"reports"}, ["other.task"], True),
        ({"elsewhere"}, ["proj.ok [rate_limit=1/s]"], True),
        ({"elsewhere"}, ["other.task"], False),
        ({"celery"}, ["proj.ok", DELIVER_TASK], False),
    ],
    ids=["queue of the app", "queue of its workers", "task of the app", "another project", "with batches"],
)
def test_a_worker_of_another_project_is_none_of_ours(
    app: Celery, queues: set[str], tasks: list[str], bare: bool
) -> None:
    read = [("one", queues), ("ours", {"reports"})]
    registered = [("one", tasks), ("ours", ["proj.ok", DELIVER_TASK])]
    assert _find_bare(app, read, registered) == ({"one"} if bare else set())


# -- repair ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("result", "state"), [("SUCCESS", "delivered"), ("FAILURE", "given_up")])
def test_a_callback_whose_report_was_lost_is_settled_by_its_result(
    app: Celery, redis: Redis, result: str, state: str
) -> None:
    batch = ended(app)
    redis.delete("celery")
    rewrite(redis, batch, "published", 5 * 60_000)
    app.backend.store_result(f"cb_{batch.bid}_success_0", ValueError() if result == "FAILURE" else 1, result)
    batch.reconcile()
    assert batch.status().callbacks[0].state == state
    (line,) = batch.deliveries()
    assert (line.outcome, line.detail) == (state, f"its result is {result}")

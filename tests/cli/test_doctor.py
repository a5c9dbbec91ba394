"""`celery -A proj batch doctor` and `reconcile`, with a real broker and real workers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.membership import Membership, Outcome, State
from tests.support.apps import open_app
from tests.support.servers import kill, need, rabbitmq_url, running_worker, wait_until
from tests.support.terminal import Commands

Command = Callable[..., "subprocess.CompletedProcess[str]"]
DAY_MS = 86_400_000


def kinds_of(output: str) -> dict[str, int]:
    """The counts that the doctor printed, by kind."""
    found = re.findall(r"^- ([\d,]+) ([^:]+): ", output, re.MULTILINE)
    return {kind: int(count.replace(",", "")) for count, kind in found}


# -- one batch ------------------------------------------------------------------------------------


def test_each_member_is_found_where_it_is(
    app: Celery, redis: Redis, server_url: str, tmp_path: Path, batch_command: Command
) -> None:
    environment = {"BATCHES_TEST_BACKEND": f"file://{tmp_path}", "BATCHES_TEST_LEASE": "5"}
    with running_worker(server_url, "prefork", BATCHES_TEST_LEASE="5") as worker:
        with Batch("Where are they", app=app) as batch:
            for _ in range(2):
                app.tasks["proj.slow"].delay(60)
            scheduled = app.tasks["proj.ok"].apply_async(("secret-argument",), countdown=300)
            app.tasks["proj.ok"].delay("secret-argument")
            elsewhere = [app.tasks["proj.ok"].apply_async(queue="mistyped") for _ in range(5)]
        wait_until(lambda: redis.hlen("unacked") == 2 and len(running_tasks(app)) == 2, what="all four read")
        for _ in range(2):
            redis.rpop("mistyped")
        app.backend.mark_as_done(elsewhere[0].id, "a-secret-result")
        looks = []

        def all_answer() -> bool:  # it gives the workers a second per question
            looks.append(batch_command("doctor", batch.bid, **environment))
            return "did not answer" not in looks[-1].stdout

        wait_until(all_answer, what="the worker's answers")
        done = looks[-1]
        kill(worker)
    assert done.returncode == 1, done.stdout
    assert kinds_of(done.stdout) == {
        "running": 2,
        "scheduled": 1,
        "reserved": 1,
        "in a queue that no worker reads": 3,
        "ended, not counted": 1,
        "vanished": 1,
    }
    first, second = done.stdout.splitlines()[:2]
    assert re.fullmatch(r"▸ 0% done after .* s, 0 of 9 succeeded: Where are they", first)
    counts = "of 9 members 0 succeeded, 0 are dead, 0 failing, 9 wait"
    assert second == f"batch {batch.bid}: running; {counts}"
    assert re.search(rf"^2 {scheduled.id}: scheduled prefork-.*@tests \(.* UTC\)$", done.stdout, re.M)
    assert f"4 {elsewhere[0].id}: ended, not counted SUCCESS" in done.stdout
    assert f"{elsewhere[2].id}: in a queue that no worker reads mistyped, 0 of 3 before it" in done.stdout
    assert "secret" not in done.stdout

    # What the killed worker had begun was acknowledged early; the rest was not, and comes back.
    outputs = []

    def is_lost() -> bool:
        outputs.append(batch_command("doctor", batch.bid, "--limit", "1", **environment).stdout)
        return "lives and did not answer" not in outputs[-1]

    wait_until(is_lost, what="the end of the lease")
    assert "workers: none answered" in outputs[-1]
    counts = kinds_of(outputs[-1])
    assert counts["taken by a worker that is not there"] == 2
    assert counts.get("lost", 0) + counts.get("vanished", 0) == 3, "whether it had noted what it began"
    assert len(re.findall(r"^\d+ [0-9a-f-]{36}: ", outputs[-1], re.M)) == 1


def test_what_a_worker_noted_before_it_was_lost_is_lost_and_has_not_vanished(
    app: Celery, redis: Redis, batch_command: Command
) -> None:
    batch = Batch(app=app)
    ids = [result.id for result in batch.add(*(app.signature("proj.ok") for _ in range(3)))]
    redis.delete("celery")
    store = app._batches_extension.engine.store
    for wid, task_id in (("gone@tests/1", ids[0]), ("busy@tests/2", ids[1])):
        store.beat_worker(wid)
        store.write_records(wid, {f"{task_id} 0": b"{}\n"})
    redis.zadd("batches:workers", {"gone@tests/1": 1})
    done = batch_command("doctor", batch.bid)
    assert kinds_of(done.stdout) == {"running": 1, "lost": 1, "unknown": 1}
    assert f"0 {ids[0]}: lost gone@tests" in done.stdout
    assert f"1 {ids[1]}: running busy@tests" in done.stdout


def running_tasks(app: Celery) -> list[object]:
    """What the one worker that there is says it runs."""
    answers = app.control.inspect(timeout=5, limit=1).active() or {}
    return [task for tasks in answers.values() for task in tasks]


def test_while_a_worker_lives_and_does_not_answer_nobody_has_vanished(
    app: Celery, redis: Redis, batch_command: Command
) -> None:
    batch = Batch(app=app)
    batch.add(app.signature("proj.ok"), app.signature("proj.ok"))
    redis.delete("celery")
    app._batches_extension.engine.store.beat_worker("busy@tests/12345678")
    done = batch_command("doctor", batch.bid)
    assert (done.returncode, kinds_of(done.stdout)) == (0, {"unknown": 2})
    assert "busy@tests lives and did not answer" in done.stdout
    redis.hset(f"batches:{{{batch.bid}}}", "reported_at", 1)
    app._batches_extension.engine.store.beat_worker("busy@tests/12345678")
    repairs = batch.reconcile(vanished="dead")
    assert repairs.vanished == 0
    assert repairs.notes[-1].endswith("no answer from busy@tests")


def test_members_that_wait_in_their_queue_have_a_place_there(
    app: Celery, redis: Redis, batch_command: Command
) -> None:
    with Batch(app=app) as batch:
        for priority in (9, 0, 0):
            app.tasks["proj.ok"].apply_async(priority=priority)
    done = batch_command("doctor", batch.bid)
    assert done.returncode == 0
    assert "queues: nobody takes from them until a worker runs" in done.stdout
    assert kinds_of(done.stdout) == {"queued": 3}
    assert "queues: celery: 3" in done.stdout
    members = re.findall(r"^(\d) \S+: queued celery, (\d) of 3 before it$", done.stdout, re.M)
    assert members == [("0", "2"), ("1", "0"), ("2", "1")]
    app._batches_extension.engine.store.beat_worker("busy@tests/12345678")
    done = batch_command("doctor", batch.bid)
    assert "nobody takes" not in done.stdout


def test_a_global_key_prefix_of_the_broker_is_kept_to(redis: Redis, server_url: str) -> None:
    from celery_batches_notify.doctor.broker_queues import read_broker

    with open_app(server_url, broker_transport_options={"global_keyprefix": "mine:"}) as app:
        results = [app.tasks["proj.ok"].apply_async(queue="elsewhere") for _ in range(1200)]
        broker = read_broker(app, (), lambda task_id: task_id == results[7].id)
    assert broker.readable
    assert broker.lengths["elsewhere"] == 1200
    assert broker.found[results[7].id].position == 7


def test_an_open_batch_has_members_that_are_not_published_yet(
    app: Celery, redis: Redis, batch_command: Command
) -> None:
    with Batch(app=app, keep_open=True) as batch:
        app.tasks["proj.ok"].delay()
    redis.delete("celery")
    done = batch_command("doctor", batch.bid)
    assert kinds_of(done.stdout) == {"not published": 1}


def test_a_child_that_is_gone_is_told_and_given_up_only_when_asked(
    app: Celery, redis: Redis, batch_command: Command
) -> None:
    parent = Batch(app=app, keep_open=True)
    child, gone = Batch(app=app, parent=parent), Batch(app=app, parent=parent)
    for each in (child, gone):
        each.add(app.signature("proj.ok"))
    parent.seal()
    redis.delete(*redis.keys(f"batches:{{{gone.bid}}}*"))
    done = batch_command("doctor", parent.bid)
    assert (done.returncode, kinds_of(done.stdout)) == (1, {"a batch": 1, "a batch that is gone": 1})
    redis.hset(f"batches:{{{parent.bid}}}", "reported_at", 1)
    redis.hset(f"batches:{{{child.bid}}}", "reported_at", 1)
    done = batch_command("reconcile", parent.bid, "--vanished", "dead")
    assert "1 vanished, counted as dead" in done.stdout
    assert (parent.status().dead, parent.status().pending) == (1, 2)


def test_a_broker_whose_messages_cannot_be_read_is_told_honestly(
    redis: Redis, server_url: str, batch_command: Command
) -> None:
    url = rabbitmq_url()
    need("RabbitMQ", url)
    # kombu shares a pool among apps whose brokers are the same, also with one that was closed meanwhile.
    alone = {"client_properties": {"test": "doctor"}}
    conf = {"broker_url": url, "task_default_queue": "doctor-test", "broker_transport_options": alone}
    with open_app(server_url, **conf) as app:
        with Batch(app=app) as batch:
            app.tasks["proj.ok"].apply_async(queue="doctor-test")
        done = batch_command("doctor", batch.bid, BATCHES_TEST_BROKER=str(url))
        assert (done.returncode, kinds_of(done.stdout)) == (0, {"unknown": 1})
        assert "the messages in a broker of the kind amqp cannot be read without taking them" in done.stdout
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete("doctor-test")


def test_a_broker_that_is_away_hides_nothing_else(app: Celery, batch_command: Command) -> None:
    batch = Batch(app=app)
    batch.add(app.signature("proj.ok"))
    done = batch_command("doctor", batch.bid, BATCHES_TEST_BROKER="redis://127.0.0.1:1/0")
    assert (done.returncode, kinds_of(done.stdout)) == (0, {"unknown": 1})
    assert "the broker does not answer" in done.stdout


@pytest.mark.parametrize("command", ["doctor", "reconcile"])
def test_bad_input_has_its_line_and_its_exit_code(batch_command: Command, redis: Redis, command: str) -> None:
    for bid, code, words in (
        ("never-was-a-batch", 4, "there is no batch never-was-a-batch"),
        ("-Abegins-with-a-dash", 4, "there is no batch -Abegins-with-a-dash"),
        ("../../etc/passwd", 2, "is not a batch id"),
        ("x\x1b]0;title\x07y", 2, "is not a batch id"),
    ):
        done = batch_command(command, bid)
        assert (done.returncode, done.stdout) == (code, "")
        *_, line = done.stderr.splitlines()
        assert line.startswith("Error: ")
        assert words in line
    away = batch_command(command, "never-was-a-batch", BATCHES_TEST_URL="redis://127.0.0.1:1/0")
    assert (away.returncode, away.stdout) == (69, "")
    assert "does not answer" in away.stderr
    assert batch_command(command, "--limit" if command == "doctor" else "--vanished", "x").returncode == 2


# -- all batches ----------------------------------------------------------------------------------


def complaints(output: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w-]{22}): (.*)$", output, re.MULTILINE))


def test_where_all_is_well_the_doctor_says_so(app: Celery, redis: Redis, batch_command: Command) -> None:
    Batch(app=app).add(app.signature("proj.ok"))
    done = batch_command("doctor")
    assert (done.returncode, complaints(done.stdout), done.stderr) == (0, {}, "")
    assert "all live batches move" in done.stdout


def test_the_doctor_says_that_outcomes_could_not_wait_on_this_host(
    app: Celery,
    command: Commands,
    no_temporary_directory: Path,
) -> None:
    ran = command("doctor")
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("warning: spool: ")]
    assert str(no_temporary_directory) in line
    assert "set batches_spool_dir" in line
    assert ran.code == 0


def test_every_batch_that_does_not_move_is_named_with_what_to_do(
    app: Celery, redis: Redis, batch_command: Command
) -> None:
    now_ms = redis.time()[0] * 1000

    def make(**fields: object) -> str:
        batch = Batch("\x1b[31mred", app=app).on("complete", app.signature("proj.callback"))
        batch.add(app.signature("proj.ok"), app.signature("proj.ok"))
        key = f"batches:{{{batch.bid}}}"
        for field, value in fields.items():
            redis.hdel(key, field) if value is None else redis.hset(key, field, value)
        return batch.bid

    abandoned = make(sealed_at=None, reported_at=now_ms - DAY_MS // 2)
    stalled = make(reported_at=now_ms - 2 * DAY_MS)
    nothing = make(reported_at=now_ms - 600_000)
    newer = make(schema=99)
    broken = make(total="many")
    corrupt = make()
    redis.delete(f"batches:{{{corrupt}}}:states")
    due = make(complete_at=now_ms - 600_000)
    redis.hset(f"batches:{{{due}}}:outbox", "complete:0", f"due 0 {now_ms - 600_000}")
    given_up = make(complete_at=now_ms)
    redis.hset(f"batches:{{{given_up}}}:outbox", "complete:0", "given_up 1 0")
    published = make(complete_at=now_ms - DAY_MS)
    redis.hset(f"batches:{{{published}}}:outbox", "complete:0", f"published 1 {now_ms - DAY_MS}")
    redis.delete("celery")
    well = Batch(app=app)
    well.add(app.signature("proj.ok"))
    for bid in (due, given_up, published):
        redis.expire(f"batches:{{{bid}}}:outbox", 600)
    done = batch_command("doctor")
    assert done.returncode == 1
    told = complaints(done.stdout)
    expected = {
        abandoned: "open, and nothing was added for 12 h: its producer has probably died",
        stalled: "stalled: 2 of 2 members wait, nothing moved for 2 d",
        nothing: "2 of 2 members wait, and neither broker nor workers have any",
        newer: "stored by a newer celery-batches-notify",
        broken: "what the store holds of batch",
        corrupt: "corrupt: the store has lost some of its keys",
        due: "the callback complete:0 (proj.callback) is due since 10 min and nobody publishes it",
        given_up: "the callback complete:0 (proj.callback) was given up",
        published: "the callback complete:0 (proj.callback) was published, and nothing was heard of it for",
    }
    assert told.keys() == expected.keys()
    for bid, words in expected.items():
        assert told[bid].startswith(words)
        assert ". To do: " in told[bid]


# -- reconcile ------------------------------------------------------------------------------------


def test_reconcile_tells_in_numbers_what_it_did(
    app: Celery, tmp_path: Path, batch_command: Command, redis: Redis
) -> None:
    batch = Batch(app=app)
    ids = [result.id for result in batch.add(*(app.signature("proj.ok") for _ in range(3)))]
    for task_id in ids[:2]:
        app.backend.mark_as_done(task_id, "secret")
    backend = {"BATCHES_TEST_BACKEND": f"file://{tmp_path}"}
    done = batch_command("reconcile", **backend)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{batch.bid}: 2 succeeded by their results",
        "1 live batches: 2 succeeded by their results",
    ]
    app.backend.mark_as_failure(ids[2], ValueError("secret"))
    done = batch_command("reconcile", batch.bid, **backend)
    assert done.stdout == f"{batch.bid}: 1 dead by their results\n"
    assert batch_command("reconcile", batch.bid, **backend).stdout == f"{batch.bid}: nothing to repair\n"


def test_reconcile_retry_and_redeliver_at_once_do_each_thing_once(
    app: Celery, tmp_path: Path, redis: Redis
) -> None:
    """T43, with threads: the commands are one call each."""
    from concurrent.futures import ThreadPoolExecutor

    batch = Batch(app=app).on("finish", app.signature("proj.callback"))
    ids = [result.id for result in batch.add(*(app.signature("proj.ok") for _ in range(30)))]
    store = app._batches_extension.engine.store
    for index in range(10):
        call = f'{{"id": "{ids[index]}", "task": "proj.ok", "args": [], "kwargs": {{}}, "options": {{}}}}'
        died = Outcome(state=State.DEAD, reason="failed", resend=call, unsendable="")
        store.record_outcome(Membership(bid=batch.bid, index=index, task_id=ids[index]), died)
    for task_id in ids[10:]:
        app.backend.mark_as_done(task_id, None)
    redis.delete("celery")
    with ThreadPoolExecutor(30) as threads:
        reconciled = threads.map(lambda _: batch.reconcile(), range(10))
        retried = threads.map(lambda _: batch.retry(), range(10))
        redelivered = threads.map(lambda _: batch.redeliver("finish"), range(10))
        assert sum(r.succeeded for r in reconciled) == 20
        assert sum(retried) == 10
        assert sum(redelivered) == 0
    status = batch.status()
    assert (status.succeeded, status.failing, status.dead, status.pending) == (20, 10, 0, 10)

"""`batch cancel`, `retry`, `seal` and `delete`: who is asked, what is done, and what is said."""

from __future__ import annotations

import io
import json
import sys

import click
import pytest
from celery import Celery

from celery_batches_notify import Batch, NoSuchBatch
from celery_batches_notify.cli.change import cancel_batches, find_user
from celery_batches_notify.cli.output import Output
from celery_batches_notify.membership import State
from celery_batches_notify.store.keys import Keys
from tests.support.terminal import Commands, Made, Screen, fail, make_batch

TERMINAL = ("stdin", "stderr")


def answer(word: str) -> object:
    def type_it(screen: Screen) -> None:
        screen.wait_for("[y/N]")
        screen.type(f"{word}\n")

    return type_it


@pytest.mark.parametrize("verb", ["cancel", "seal", "delete"])
def test_without_a_terminal_nothing_is_done_unless_somebody_says_yes(
    app: Celery, command: Commands, verb: str
) -> None:
    batch = Batch(app=app, keep_open=True)
    batch.add(app.signature("proj.ok"))
    ran = command(verb, batch.bid)
    assert (ran.code, ran.stdout) == (2, "")
    assert "--yes" in ran.stderr
    status = batch.status()
    assert (status.cancelled_at, status.sealed_at) == (None, None)
    assert command(verb, batch.bid, "--yes").code == 0


def test_a_closed_standard_input_is_no_terminal(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(app=app, keep_open=True)
    batch.add(app.signature("proj.ok"))
    monkeypatch.setattr(sys, "stdin", None)  # as after `<&-`
    with pytest.raises(click.UsageError, match="there is no terminal to ask on"):
        cancel_batches(app, Output(io.StringIO()), bids=[batch.bid], terminate=False, yes=False)
    assert batch.status().cancelled_at is None


@pytest.mark.parametrize(
    ("verb", "done", "question"),
    [
        ("cancel", "cancelled", "2 members will not run"),
        ("seal", "sealed", "it is sealed already"),
        ("delete", "deleted", "2 members will run on and count nowhere"),
    ],
)
def test_a_terminal_is_asked_in_numbers_and_no_is_no(
    app: Celery, command: Commands, verb: str, done: str, question: str
) -> None:
    made = make_batch(app, 2, "\x1b[31mImport\x07")
    for word in ("", "n", "yess"):
        ran = command(verb, made.bid, terminal=TERMINAL, columns=200, meanwhile=answer(word))
        assert (ran.code, ran.stdout) == (1, "")
        assert made.batch.status().cancelled_at is None
        assert any(question in line for line in ran.screen.lines)
        assert b"\x1b" not in ran.screen.raw
    ran = command(verb, made.bid, terminal=TERMINAL, meanwhile=answer("yes"))
    assert (ran.code, ran.stdout) == (0, f"{made.bid}: {done}\n")


def test_a_batch_is_cancelled_once_and_may_be_again(app: Celery, command: Commands) -> None:
    made = make_batch(app, 2)
    for _ in range(2):
        ran = command("cancel", made.bid, "--yes", "--json")
        assert ran.records == [
            {"bid": made.bid, "cancelled": True},
            {"exit_code": 0, "final": True},
        ]
    assert made.batch.cancelled
    assert command("retry", made.bid).code == 1, "a cancelled batch is not retried"


def test_dead_members_are_sent_again(app: Celery, command: Commands) -> None:
    made = make_batch(app, 3)
    made.report(State.DEAD, 1, failure=fail(made.ids[1]))
    ran = command("retry", made.bid)
    assert (ran.code, ran.stdout) == (0, f"{made.bid}: 0 members sent again, 1 cannot be (not kept)\n")
    record, _ = command("retry", made.bid, "--json").records
    assert record == {"bid": made.bid, "sent": 0, "unsendable": {"not kept": 1}}


def test_an_open_batch_is_sealed(app: Celery, command: Commands) -> None:
    batch = Batch(app=app, keep_open=True)
    batch.add(app.signature("proj.ok"))
    assert command("seal", batch.bid, "--yes").stdout == f"{batch.bid}: sealed\n"
    assert batch.status().state == "running"


def test_one_that_cannot_be_changed_keeps_no_other_from_it(app: Celery, command: Commands) -> None:
    mades = [make_batch(app, 1) for _ in range(2)]
    gone = "0123456789abcdef"
    ran = command("delete", mades[0].bid, gone, mades[1].bid, "--yes")
    assert ran.code == 4
    assert ran.stdout.splitlines()[1].startswith(f"{gone}: not changed: there is no batch")
    for made in mades:
        with pytest.raises(NoSuchBatch):
            Batch.get(made.bid, app=app)
    ran = command("delete", gone, "--yes", "--json")
    assert (ran.code, ran.records[-1]["exit_code"]) == (4, 4)
    assert "there is no batch" in ran.records[-1]["error"]


def call(made: Made, index: int) -> str:
    """What a worker reports of a dead member, so that it can be sent again."""
    return json.dumps({"id": made.ids[index], "task": "proj.ok", "args": [], "kwargs": {}, "options": {}})


def test_one_kind_of_failures_is_sent_again_by_the_key_that_show_names(
    app: Celery, command: Commands
) -> None:
    made = make_batch(app, 4)
    for index in range(4):
        message = f"no row {index}" if index < 3 else "no such column"
        made.report(
            State.DEAD, index, failure=fail(made.ids[index], message=message), resend=call(made, index)
        )
    lines = command("show", made.bid).stdout.splitlines()
    (line,) = [line for line in lines if "3 dead: batch retry" in line]
    words = line.partition("batch ")[2].split()
    store = made.batch._engine.store
    assert command(*words).stdout == f"{made.bid}: 3 members sent again\n"
    assert made.batch.status().dead == 1
    assert [m.index for m in store.read_members(made.bid, 0, 4) if m.state is State.DEAD] == [3]
    ran = command("retry", made.bid, "--group", "0123456789ab")
    assert (ran.code, "no group of failures '0123456789ab'" in ran.stderr) == (2, True)


def test_what_is_done_by_hand_is_noted_in_the_batch_with_the_user(
    app: Celery, command: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ann\x1b[31m")
    batch = Batch(app=app, keep_open=True)
    batch.add(*(app.signature("proj.ok") for _ in range(3)))
    command("seal", batch.bid, "--yes")
    command("retry", batch.bid)
    command("cancel", batch.bid, "--yes")
    command("redeliver", batch.bid, "--event", "cancel")
    lines = command("show", batch.bid).stdout.splitlines()
    assert any(line.startswith("done by hand: ") and "and 3 before it" in line for line in lines)
    *records, _ = command("show", batch.bid, "--actions", "--json").records
    assert [(each["action"], each["count"]) for each in records] == [
        ("redeliver", 0),
        ("cancel", 3),
        ("retry", 0),
        ("seal", 0),
    ]
    assert {each["user"] for each in records} == {"ann [31m"}
    assert records[0]["event"] == "cancel"


def test_a_user_without_a_name_is_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("celery_batches_notify.cli.change.getpass.getuser", nobody)
    assert find_user() == ""


def test_a_corrupt_batch_can_be_deleted(app: Celery, command: Commands) -> None:
    made = make_batch(app, 1)
    store = app._batches_extension.engine.store
    store.client.hset(Keys("batches").batch(made.bid), "total", "\x1b[2Jmany")
    ran = command("delete", made.bid, terminal=TERMINAL, meanwhile=answer("y"))
    assert ran.code == 0
    assert b"\x1b" not in ran.screen.raw


def test_a_store_that_is_away_changes_nothing(make_app, command: Commands) -> None:
    app = make_app(batches_backend_url="redis://127.0.0.1:1/0", batches_backend_options={})
    for verb in ("cancel", "seal", "delete"):
        assert command.of(app)(verb, "0123456789abcdef", "--yes").code == 69
    assert command.of(app)("retry", "0123456789abcdef").code == 69

"""Every command says what is wrong with a batch or with the store, and ends with the exit code of that."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from celery import Celery

from celery_batches_notify import Batch
from celery_batches_notify.membership import State
from celery_batches_notify.store.keys import Keys
from tests.support.terminal import Commands, make_batch

COMMANDS = {
    "show": (),
    "watch": (),
    "wait": (),
    "stream": (),
    "cancel": ("--yes",),
    "retry": (),
    "seal": ("--yes",),
    "delete": ("--yes",),
    "doctor": (),
    "reconcile": (),
    "redeliver": (),
}


def spoil(app: Celery, **fields: object) -> str:
    bid = make_batch(app, 2).bid
    app._batches_extension.engine.store.client.hset(Keys("batches").batch(bid), mapping=fields)
    return bid


def deleted(app: Celery) -> str:
    bid = make_batch(app, 2).bid
    Batch.get(bid, app=app).delete()
    return bid


BAD: dict[str, tuple[Callable[[Celery], str], int, str]] = {
    "malformed": (lambda _: "not!a!bid!at!all", 2, "not a batch id"),
    "unknown": (lambda _: "x" * 22, 4, "it never was, was deleted, or has expired"),
    "deleted": (deleted, 4, "it never was, was deleted, or has expired"),
    "newer": (lambda app: spoil(app, schema=99), 4, "stored by a newer celery-batches-notify"),
    "corrupt": (lambda app: spoil(app, total="many"), 4, "cannot be read"),
}


@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_bad_batch_is_named_in_one_line_with_its_exit_code(
    app: Celery, command: Commands, name: str, how: str
) -> None:
    make, code, words = BAD[how]
    bid = make(app)
    ran = command(name, bid, *COMMANDS[name], "--json")
    if (name, how) == ("delete", "corrupt"):  # that is the way to get rid of it
        assert (ran.code, ran.records[-1]["final"]) == (0, True)
        return
    assert ran.code == code, (ran.stdout, ran.stderr)
    assert words in ran.stderr and "Traceback" not in ran.stderr
    if how != "malformed":
        assert len(ran.stderr.splitlines()) == 1
        (last,) = ran.records
        assert (last["final"], last["exit_code"]) == (True, code)
        assert words in last["error"]


@pytest.mark.parametrize("name", [*COMMANDS, "list", "sweep", "metrics", "web"])
def test_an_option_that_a_command_lacks_is_wrong_usage(app: Celery, command: Commands, name: str) -> None:
    given = ("x" * 22, *COMMANDS[name]) if name in COMMANDS else ()
    ran = command(name, *given, "--nosuch")
    assert (ran.code, ran.stdout) == (2, "")
    assert "--nosuch" in ran.stderr


@pytest.mark.parametrize("name", [*COMMANDS, "list", "sweep"])
def test_a_store_that_is_away_is_one_line_and_exit_code_69(
    make_app: Callable[..., Celery], command: Commands, name: str
) -> None:
    app = make_app(batches_backend_url="redis://:hidden@127.0.0.1:1/0", batches_backend_options={})
    given = () if name in ("list", "sweep") else ("x" * 22, *COMMANDS[name])
    ran = command.of(app)(name, *given, "--json")
    assert (ran.code, len(ran.stderr.splitlines())) == (69, 1), ran.stderr
    assert "does not answer" in ran.stderr and "hidden" not in ran.stderr + ran.stdout
    (last,) = ran.records
    assert (last["final"], last["exit_code"]) == (True, 69)


@pytest.mark.parametrize(
    ("progress", "terminal", "has_bar"),
    [
        ("auto", ("stdout", "stderr"), True),
        ("auto", ("stderr",), True),
        ("auto", (), False),
        ("tty", ("stdout", "stderr"), True),
        ("plain", ("stderr",), False),
        ("json", ("stderr",), False),
        ("quiet", ("stderr",), False),
    ],
)
def test_progress_chooses_between_bar_lines_and_nothing(
    app: Celery, command: Commands, progress: str, terminal: tuple[str, ...], has_bar: bool
) -> None:
    made = make_batch(app, 2)
    made.report(State.SUCCEEDED)
    ran = command("watch", made.bid, "--progress", progress, terminal=terminal)
    assert ran.code == 0
    assert any("█" in line for line in (ran.screen.lines if ran.screen else ())) == has_bar
    if "stdout" in terminal:
        assert ran.screen.lines[-1].startswith("✓ All 2 succeeded")
    else:
        (last,) = ran.stdout.splitlines()
        assert "All 2 succeeded" in last
        assert (progress == "json") == last.startswith("{")

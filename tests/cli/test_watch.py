"""`batch watch` and `batch wait`: what they show, where, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery

from celery_batches_notify import Batch
from celery_batches_notify.membership import State
from celery_batches_notify.store import follow_many, followed
from celery_batches_notify.store.keys import Keys
from tests.support.apps import open_app
from tests.support.cut_proxy import cut_proxy
from tests.support.servers import ROOT
from tests.support.terminal import Commands, Made, Screen, fail, make_batch

BAR = ("stdin", "stdout", "stderr")
ESCAPES = re.compile(rb"\x1b\[[0-9;]*([A-Za-z])")


def end(made: Made, *, dead: int = 0) -> None:
    """Let members die, and the rest succeed."""
    for index in range(dead):
        made.report(State.DEAD, index, failure=fail(made.ids[index]))
    if len(made.ids) > dead:
        made.report(State.SUCCEEDED, *range(dead, len(made.ids)))


def succeed(app: Celery) -> str:
    end(made := make_batch(app, 2))
    return made.bid


def die(app: Celery) -> str:
    end(made := make_batch(app, 2), dead=1)
    return made.bid


def wait_for_retry(app: Celery) -> str:
    make_batch(app, 2).report(State.FAILING, failure=fail())
    return newest(app)


def newest(app: Celery) -> str:
    return next(iter(Batch.all(app=app))).bid


def cancel(app: Celery) -> str:
    made = make_batch(app, 2)
    made.batch.cancel()
    made.report(State.DEAD, failure=fail())
    return made.bid


def empty(app: Celery) -> str:
    (batch := Batch(app=app)).seal()
    return batch.bid


def corrupt(app: Celery) -> str:
    bid = make_batch(app, 2).bid
    app._batches_extension.engine.store.client.hset(Keys("batches").batch(bid), "total", "many")
    return bid


def newer(app: Celery) -> str:
    bid = make_batch(app, 2).bid
    app._batches_extension.engine.store.client.hset(Keys("batches").batch(bid), "schema", 99)
    return bid


def deleted(app: Celery) -> str:
    bid = make_batch(app, 2).bid
    Batch.get(bid, app=app).delete()
    return bid


@pytest.mark.parametrize(
    ("make", "until", "code", "words"),
    [
        (succeed, "finish", 0, "All 2 succeeded"),
        (succeed, "success", 0, "All 2 succeeded"),
        (empty, "success", 0, "nothing to do"),
        (wait_for_retry, "complete", 0, "2 of 2 failed and will be retried"),
        (die, "complete", 0, "1 of 2 failed for good"),
        (die, "finish", 1, "1 of 2 failed for good"),
        (die, "success", 1, "1 of 2 failed for good"),
        (cancel, "finish", 1, "Cancelled"),
        (wait_for_retry, "finish", 3, "no finish within 0.2 s"),
        (deleted, "finish", 4, "it never was, was deleted, or has expired"),
        (corrupt, "finish", 4, "cannot be read"),
        (newer, "finish", 4, "stored by a newer celery-batches-notify"),
    ],
)
def test_the_exit_code_says_how_it_ended(
    app: Celery, command: Commands, make: Callable[[Celery], str], until: str, code: int, words: str
) -> None:
    seconds = "0.2" if code == 3 else "60"
    ran = command("wait", make(app), "--until", until, "--timeout", seconds)
    assert ran.code == code
    (line,) = (ran.stderr if code == 4 else ran.stdout).splitlines()
    assert words in line


@pytest.mark.parametrize(
    "words",
    [
        ["not-a-bid!"],
        ["short"],
        ["--jsno"],
        [],
        ["0123456789abcdef", "--tag", "prod"],
        ["0123456789abcdef", "--timeout", "soon"],
        ["0123456789abcdef", "--timeout", "0"],
        ["0123456789abcdef", "--until", "death"],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(command: Commands, words: list[str]) -> None:
    ran = command("watch", *words)
    assert (ran.code, ran.stdout) == (2, "")


def test_a_store_that_is_away_at_the_start_has_a_code_of_its_own(make_app, command: Commands) -> None:
    app = make_app(batches_backend_url="redis://127.0.0.1:1/0", batches_backend_options={})
    ran = command.of(app)("wait", "0123456789abcdef")
    assert (ran.code, ran.stdout) == (69, "")
    assert "does not answer" in ran.stderr


def test_a_pipe_gets_a_line_per_tenth_and_one_last_line(app: Celery, command: Commands) -> None:
    made = make_batch(app, 20)
    shown = threading.Event()

    def report(_: object) -> None:
        shown.wait(0.5)
        for index in range(20):
            made.report(State.DEAD if index == 7 else State.SUCCEEDED, index, failure=fail())

    ran = command("watch", made.bid, meanwhile=report)
    lines = ran.stdout.splitlines()
    assert ran.code == 1 and ran.stderr == ""
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", ran.stdout)
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d (running|dead) \d+% .*of 20(: .*)?", line) for line in lines)
    shares = [int(re.findall(r"(\d+)%", line)[0]) // 10 for line in lines[:-1]]
    assert len(shares) == len(set(shares)), "one per tenth"
    assert [": " in line[9:] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1].endswith("dead 100% 19 succeeded 0 failing 1 dead of 20: 1 of 20 failed for good")


def test_a_program_gets_json_lines_and_knows_the_last(app: Celery, command: Commands) -> None:
    made = make_batch(app, 3, "\x1b[31mred\x07 rows")

    def report(screen: Screen) -> None:
        screen.wait_for("/3")
        end(made, dead=1)

    ran = command("watch", made.bid, "--json", terminal=("stdin", "stderr"), meanwhile=report)
    *before, last = ran.records
    assert ran.code == 1 and before
    assert last["final"] is True and not any("final" in each for each in before)
    wanted = {
        "bid": made.bid,
        "state": "dead",
        "total": 3,
        "succeeded": 2,
        "failing": 0,
        "dead": 1,
        "waiting": 0,
    }
    assert {key: last[key] for key in wanted} == wanted
    assert (last["exit_code"], last["progress"], last["ended"]) == (1, 1.0, "1 of 3 failed for good")
    assert "\x1b" not in ran.stdout and "red rows" in last["headline"]
    assert any("1 dead" in line for line in ran.screen.lines), "the bar is on the terminal all the same"


@pytest.mark.parametrize("columns", [0, 40, 200])
def test_a_terminal_keeps_the_bar_below_and_failures_scroll_by(
    app: Celery, command: Commands, columns: int
) -> None:
    made = make_batch(app, 40, "Rechnungen für 東京 \x1b]0;owned\x07")

    def report(screen: Screen) -> None:
        screen.wait_for("0%")
        made.report(State.DEAD, 0, failure=fail(made.ids[0], message="no \x1b[2Jrow\r\n\x9b1m here"))
        screen.wait_for("[" + made.ids[0][:8] + "]")
        made.report(State.SUCCEEDED, *range(1, 40))

    ran = command("watch", made.bid, terminal=BAR, columns=columns, meanwhile=report)
    screen = ran.screen
    assert ran.code == 1
    assert set(ESCAPES.findall(screen.raw)) <= {b"A", b"J", b"m"}, "no alternate screen"
    assert not re.search(rb"\x1b(?!\[[0-9;]*[AJm])|[\x00-\x09\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]", screen.raw)
    text = "".join(screen.lines)
    assert text.count("failed import_row") == 1 and "KeyError: no [2Jrow 1m here" in text
    bars = [line for line in screen.lines if "█" in line]
    assert len(bars) == 1, screen.lines
    assert "100%" in bars[0]
    assert screen.lines.index(bars[0]) > next(n for n, line in enumerate(screen.lines) if "failed" in line)
    assert "".join(screen.lines[screen.lines.index(bars[0]) + 1 :]).startswith(
        "✗ 1 of 40 failed for good: Rech"
    )


def test_what_the_shell_printed_while_the_watch_was_stopped_is_not_erased(
    app: Celery, command: Commands
) -> None:
    made = make_batch(app, 2)
    usual = signal.getsignal(signal.SIGCONT)

    def stop_and_go_on(screen: Screen) -> None:
        screen.wait_for("0%")
        screen.stream.write("$ ls\r\nusers.csv\r\n$ fg\r\n")
        os.kill(os.getpid(), signal.SIGCONT)
        made.report(State.SUCCEEDED)

    try:
        ran = command("watch", made.bid, terminal=BAR, meanwhile=stop_and_go_on)
    finally:
        signal.signal(signal.SIGCONT, usual)
    shown = [line for line in ran.screen.lines if line in ("$ ls", "users.csv", "$ fg")]
    assert shown == ["$ ls", "users.csv", "$ fg"]
    assert any("100%" in line for line in ran.screen.lines)


@pytest.mark.parametrize(
    ("environ", "has_colours", "has_blocks", "is_drawn"),
    [
        ({"NO_COLOR": "1"}, False, True, True),
        ({"LANG": "C"}, True, False, True),
        ({"LANG": "", "LC_CTYPE": "C.UTF-8"}, True, False, True),
        ({"TERM": "dumb"}, False, False, False),
    ],
)
def test_a_terminal_that_can_less_gets_less(
    app: Celery,
    command: Commands,
    environ: dict[str, str],
    has_colours: bool,
    has_blocks: bool,
    is_drawn: bool,
) -> None:
    made = make_batch(app, 3, "Größe")

    def report(screen: Screen) -> None:
        screen.wait_for("0%")
        end(made)

    screen = command("watch", made.bid, terminal=BAR, meanwhile=report, **environ).screen
    assert (b"\x1b[32m" in screen.raw) == has_colours
    assert ("█".encode() in screen.raw) == has_blocks
    assert (b"\x1b" in screen.raw) == is_drawn
    if not has_blocks and is_drawn:
        assert screen.raw.isascii() and b"####" in screen.raw


def test_several_batches_have_a_bar_each_and_one_exit_code(app: Celery, command: Commands) -> None:
    mades = [make_batch(app, 2, f"Part {n}", tags=["nightly"]) for n in range(30)]
    end(make_batch(app, 1, "of yesterday", tags=["nightly"]), dead=1)

    def report(screen: Screen) -> None:
        screen.wait_for("and 9 more")
        for made in mades:
            end(made)

    ran = command("watch", "--tag", "nightly", terminal=BAR, meanwhile=report)
    assert ran.code == 0
    assert ran.screen.lines[-1].endswith(" 30 batches: 30 success")
    end(mades.append(make_batch(app, 2)) or mades[-1], dead=1)
    ran = command("wait", *(made.bid for made in mades), "0123456789abcdef", "--json")
    assert ran.code == 4, "one is not there, another has died"
    assert ran.records == [ran.records[-1]]
    assert ran.records[-1]["states"] == {"success": 30, "dead": 1, "gone": 1}
    assert command("wait", "--tag", "nightly").code == 4, "none is left"


def test_dead_members_that_run_again_are_waited_for(app: Celery, command: Commands) -> None:
    made = make_batch(app, 2)
    end(made, dead=1)
    store = made.batch._engine.store
    keys = Keys("batches")
    store.client.hset(keys.batch(made.bid), mapping={"dead": 0, "failing": 1})
    store.client.setbit(keys.part(made.bid, "states"), 0, 0)
    store.client.setbit(keys.part(made.bid, "states"), 1, 1)

    def report(screen: Screen) -> None:
        screen.wait_for("50%")
        made.report(State.SUCCEEDED, 0, attempt=2)

    ran = command("watch", made.bid, terminal=("stderr",), meanwhile=report)
    assert (ran.code, "All 2 succeeded" in ran.stdout) == (0, True)


def test_a_batch_that_is_deleted_meanwhile_ends_it(app: Celery, command: Commands) -> None:
    made = make_batch(app, 2)

    def delete(screen: Screen) -> None:
        screen.wait_for("0%")
        made.batch.delete()
        made.batch._engine.store.client.publish(f"batch-{made.bid}", "-")

    ran = command("watch", made.bid, terminal=("stderr",), meanwhile=delete)
    assert ran.code == 4
    assert ran.stdout.splitlines()[-1].endswith("of 2: it was deleted, or has expired")


def test_a_store_that_goes_away_is_said_once_and_waited_for(
    server_url: str, command: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "AWAY_SECONDS", 0.2)
    monkeypatch.setattr(followed, "REREAD_SECONDS", 0.2)
    monkeypatch.setattr(follow_many, "AGAIN_SECONDS", 0.05)
    with cut_proxy(server_url) as (proxy, url), open_app(server_url) as app:
        made = make_batch(app, 2)

        def cut(screen: Screen) -> None:
            screen.wait_for("0%")
            proxy.misbehave("refuse")
            screen.wait_for("waiting for the store")
            made.report(State.SUCCEEDED)
            proxy.behave()

        with open_app(url) as far:
            ran = command.of(far)("watch", made.bid, "--timeout", "20", terminal=BAR, meanwhile=cut)
    assert ran.code == 0
    text = "".join(ran.screen.lines)
    assert (text.count("waiting for the store"), text.count("the store is back")) == (1, 1)
    assert ran.screen.lines[-1].startswith("✓ All 2 succeeded")


def test_a_store_that_is_away_when_the_time_is_up_is_said_by_the_exit_code(
    server_url: str, command: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "AWAY_SECONDS", 0.1)
    monkeypatch.setattr(followed, "REREAD_SECONDS", 0.1)
    with cut_proxy(server_url) as (proxy, url), open_app(url) as app:
        made = make_batch(app, 2)

        def cut(screen: Screen) -> None:
            screen.wait_for("0%")
            proxy.misbehave("refuse")

        ran = command.of(app)("watch", made.bid, "--timeout", "3", terminal=("stderr",), meanwhile=cut)
        assert ran.code == 69
        assert ran.stdout.splitlines()[-1].endswith("of 2: the store is away")
        proxy.behave()


def test_ctrl_c_leaves_the_batch_alone_and_says_how_to_go_on(
    app: Celery, installed: Path, server_url: str
) -> None:
    made = make_batch(app, 2)
    env = {**os.environ, "PYTHONPATH": f"{installed}:{ROOT}", "BATCHES_TEST_URL": server_url}
    words = ["celery", "-A", "tests.projects.proj", "batch", "watch", made.bid, "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", *words],
        env=env,
        cwd=installed,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(first)["bid"] == made.bid
    assert json.loads(rest.splitlines()[-1]) == {"exit_code": 130, "final": True}
    assert errors == f"the batch goes on; watch it again with: celery -A … batch watch {made.bid}\n"
    assert made.batch.status().state == "running"

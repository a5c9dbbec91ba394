"""`batch list` and `batch show`: the same words as elsewhere, and nothing that a terminal obeys."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.cli.output import as_json_line
from celery_batches_notify.headline import describe, headline
from celery_batches_notify.membership import State
from tests.support.terminal import Commands, Made, fail, make_batch

HOSTILE = [
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[31m",
    "\r\x1b[K all fine",
    "\x9b31m",
    "line\nERROR: forged",
    "a\u202egpj.exe\u2066b",
    "\x00\x08\x7f",
    "\u2028\u2029\u0085",
    "Ω" * 3000,
]
UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def test_the_newest_are_listed_first_and_found_by_what_one_knows(app: Celery, command: Commands) -> None:
    first, second = make_batch(app, 2, "Import rows", tags=["prod"]), make_batch(app, 1, "Send mails")
    second.report(State.SUCCEEDED)
    lines = command("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [second.bid, first.bid]
    assert "✓ success 100% 1/1" in lines[0] and "Send mails" in lines[0]
    assert "running 0% 0/2" in lines[1] and lines[1].endswith("Import rows #prod")
    for words in (["--tag", "prod"], ["--state", "running"], ["IMPORT"], [first.bid[3:12].lstrip("-")]):
        assert [r["bid"] for r in command("list", *words, "--json").records[:-1]] == [first.bid]
    *records, last = command("list", "--limit", "1", "--json").records
    assert [record["bid"] for record in records] == [second.bid]
    assert last == {"listed": 1, "looked_at": 2, "more": True, "exit_code": 0, "final": True}
    assert command("list", "--limit", "1").stdout.splitlines()[-1] == "the newest 1 only: --limit shows more"
    assert command("list", "--limit", "2").stdout.count("\n") == 2
    assert command("list", "nothing like it").stdout == "none of the 2 batches that are kept\n"
    ran = command("list", "--state", "runing")
    assert ran.code == 2 and "did you mean 'running'" in ran.stderr


def test_a_list_for_people_reads_no_failures_and_no_callbacks(
    app: Celery, command: Commands, redis: Redis
) -> None:
    made, broken = make_batch(app, 1, "Import rows"), make_batch(app, 1, "Import rows")
    made.report(State.DEAD, failure=fail())
    redis.hset(f"batches:{{{broken.bid}}}", "total", "many")
    redis.config_resetstat()
    assert [line.split()[0] for line in command("list").stdout.splitlines()] == [made.bid]
    assert "cmdstat_hgetall" not in redis.info("commandstats")
    (record, _) = command("list", "--state", "dead", "--json").records
    assert (record["bid"], len(record["failure_info"])) == (made.bid, 1)


def test_a_batch_is_shown_with_its_verdict_failures_and_callbacks(app: Celery, command: Commands) -> None:
    batch = Batch("Import rows", app=app, tags=["prod"]).on("death", app.signature("proj.callback"))
    results = batch.add(*(app.signature("proj.ok") for _ in range(4)))
    made = Made(batch=batch, ids=[result.id for result in results])
    for index in (0, 1):
        made.report(State.DEAD, index, failure=fail(made.ids[index], message=f"no row {index}"))
    made.report(State.SUCCEEDED, 2)
    lines = command("show", batch.bid).stdout.splitlines()
    assert lines[0].startswith("✗") and lines[0].endswith(": Import rows")
    assert "1 ok 2 dead /4" in lines[1]
    assert lines[2] == f"{batch.bid} running #prod"
    text = "\n".join(lines)
    assert "failures: 1 kind in the 2 that are kept of 2" in text
    assert "why: 2 are dead: until they are retried, success cannot come. To do: batch retry" in text
    assert "- 2 × KeyError in import_row: no row …" in text
    assert "callback death:0 proj.callback: due, 0 attempts" in text
    lines = command("show", batch.bid, "--members", "dead", "--failures").stdout.splitlines()
    assert [line for line in lines if line.startswith("#")] == [f"#{n} {made.ids[n]} dead" for n in (0, 1)]
    assert sum("attempt 1 proj.import_row[" in line for line in lines) == 2
    *records, last = command("show", batch.bid, "--members", "waiting", "--json").records
    assert [(record["index"], record["state"]) for record in records] == [(3, "waiting")]
    assert last["final"] and last["dead"] == 2 and last["pace"]["left"] == 1
    assert last["reasons"][0]["fix"] == f"batch retry {batch.bid}"
    assert last["headline"].endswith(", 1 of 4 succeeded, 2 failed for good: Import rows")


def test_the_batches_below_are_shown_with_it(app: Celery, command: Commands) -> None:
    with Batch("parent", app=app) as parent:
        app.signature("proj.ok").delay()
        child = make_batch(app, 3, "child", parent=parent)
    child.report(State.SUCCEEDED)
    lines = command("show", parent.bid).stdout.splitlines()
    assert "parent none, 1 batch below it" in lines
    (line,) = [line for line in lines if line.startswith("child ")]
    assert line.startswith(f"child {child.bid} ✓ success 100% 3/3 ") and line.endswith(" child")
    assert f"parent {parent.bid}, 0 batches below it" in command("show", child.bid).stdout.splitlines()
    record, _ = command("show", parent.bid, "--json").records
    assert (record["kind"], record["bid"], record["state"]) == ("child", child.bid, "success")


def test_the_batches_beside_it_are_shown_if_asked_for(app: Celery, command: Commands) -> None:
    with Batch("parent", app=app) as parent:
        one, two = (make_batch(app, 3, name, parent=parent) for name in ("EU", "US"))
    two.report(State.SUCCEEDED)
    assert two.bid not in command("show", one.bid).stdout
    lines = command("show", one.bid, "--family").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("sibling ")]
    assert line.startswith(f"sibling {two.bid} ✓ success 100% 3/3 ") and line.endswith(" US")
    record, _ = command("show", two.bid, "--family", "--json").records
    assert (record["kind"], record["bid"]) == ("sibling", one.bid)
    assert "sibling" not in command("show", parent.bid, "--family").stdout


def test_a_batch_that_finished_and_runs_again_has_one_headline_everywhere(
    app: Celery, command: Commands
) -> None:
    made = make_batch(app, 4)
    made.report(State.DEAD, 0, failure=fail())
    made.report(State.SUCCEEDED, 1, 2, 3)
    store = app._batches_extension.engine.store
    store.client.hset(store.keys.batch(made.bid), "dead", 0)  # as if the dead one had been sent again
    status = made.batch.status()
    assert (status.state, status.dead) == ("complete", 0)
    assert status.finish_at
    line = "▸ 75% done, 3 of 4 succeeded: Import rows"
    assert headline(status, now=datetime.now(UTC)) == line
    for words in (["show", made.bid], ["doctor", made.bid]):
        assert command(*words).stdout.splitlines()[0] == line
    assert command("show", made.bid, "--json").records[-1]["headline"] == line
    assert f"{describe(status)}: Import rows" == line.removeprefix("▸ ")


def test_every_command_says_how_a_batch_goes_in_the_same_sentence(app: Celery, command: Commands) -> None:
    made = make_batch(app, 4)
    made.report(State.DEAD, 0, failure=fail())
    made.report(State.SUCCEEDED, 1, 2, 3)
    sentence = "1 of 4 failed for good"
    assert describe(made.batch.status()) == sentence
    line = f"✗ {sentence}: Import rows"
    for words in (["show", made.bid], ["doctor", made.bid]):
        assert command(*words).stdout.splitlines()[0] == line
    assert command("wait", made.bid, "--json").records[-1]["headline"] == line
    assert command("show", made.bid, "--json").records[-1]["headline"] == line
    assert command("doctor", made.bid, "--json").records[0]["headline"] == line


@pytest.mark.parametrize("text", HOSTILE)
def test_no_field_of_a_batch_reaches_the_terminal_as_it_is(app: Celery, command: Commands, text: str) -> None:
    made = make_batch(app, 2, text[:900], tags=["x"])
    made.report(State.DEAD, 0, failure=fail(text, text, text))
    for words in (
        ["list"],
        ["show", made.bid, "--failures", "--deliveries", "--members", "dead"],
        ["watch", made.bid, "--timeout", "0.01"],
        ["wait", made.bid, "--timeout", "0.01", "--json"],
        ["list", "--json"],
        ["show", made.bid, "--failures", "--json"],
        ["doctor", made.bid, "--json"],
    ):
        ran = command(*words)
        assert not UNSAFE.search(ran.stdout), words
        assert not UNSAFE.search(ran.stderr), words
        assert not re.search(r"^ERROR: forged", ran.stdout, re.MULTILINE)
        if "--json" in words:
            assert ran.records[-1]["final"] is True


def test_a_line_of_json_holds_no_control_character() -> None:
    every = "".join(map(chr, range(0x2070)))
    line = as_json_line({"text": every})
    assert line.isprintable() and line.isascii()
    assert json.loads(line) == {"text": every}


@pytest.mark.parametrize("words", [["show"], ["show", "short"], ["show", "--al"], ["list", "--limit", "0"]])
def test_a_mistyped_word_is_a_usage_error(command: Commands, words: list[str]) -> None:
    ran = command(*words)
    assert (ran.code, ran.stdout) == (2, "")
    assert "Usage: " in ran.stderr


def test_characters_that_the_output_cannot_take_become_question_marks(app: Celery, command: Commands) -> None:
    made = make_batch(app, 1, "Größe 東京")
    assert command("list", encoding="latin-1").stdout.strip().endswith("Größe ??")
    assert command("show", made.bid, encoding="ascii").stdout.isascii()

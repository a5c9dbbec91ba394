"""Commands whose standard output or standard error is closed do their work and end with their exit code."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from celery import Celery

from celery_batches_notify import Batch
from celery_batches_notify.membership import State
from tests.support.terminal import Made, make_batch

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ended(app: Celery) -> Made:
    made = make_batch(app, 2)
    made.report(State.SUCCEEDED)
    return made


@pytest.mark.parametrize("redirect", [">&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["list", "show {bid}", "watch {bid}", "stream {bid}", "delete {bid} --yes"])
def test_a_command_prints_nothing_and_ends_as_ever(
    ended: Made, batch_command: Command, words: str, redirect: str
) -> None:
    done = batch_command(*words.format(bid=ended.bid).split(), redirect=redirect)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    kept = [each.bid for each in Batch.all(app=ended.batch.app)]
    assert (ended.bid in kept) is not words.startswith("delete")


@pytest.mark.parametrize("redirect", [">&-", "2>&-"])
def test_an_error_has_its_exit_code_and_its_line_if_that_can_be_seen(
    ended: Made, batch_command: Command, redirect: str
) -> None:
    Batch.get(ended.bid, app=ended.batch.app).delete()
    done = batch_command("show", ended.bid, redirect=redirect)
    assert (done.returncode, done.stdout) == (4, "")
    assert ("there is no batch" in done.stderr) is ("2>&-" not in redirect)

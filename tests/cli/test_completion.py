"""A shell completes the commands, their options, and the bids of the newest batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery
from celery.bin.celery import celery as celery_command
from click.shell_completion import BashComplete, ZshComplete

from celery_batches_notify.cli import batch
from tests.support.command_line import ROOT
from tests.support.terminal import Made, make_batch


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setitem(celery_command.commands, "batch", batch)
    return celery_command


def make_plain(app: Celery, description: str) -> Made:
    """Make a batch whose bid begins without a dash: a shell takes such a word for an option."""
    made = make_batch(app, 1, description)
    return made if not made.bid.startswith("-") else make_plain(app, description)


def complete(kind: type, cli: object, app: Celery, *words: str) -> list[str]:
    shell = kind(cli, {}, "celery", "_CELERY_COMPLETE")
    *before, last = ["-A", "proj", "batch", *words]
    return [shell.format_completion(item) for item in shell.get_completions(before, last)]


@pytest.mark.parametrize("kind", [BashComplete, ZshComplete])
def test_commands_options_and_bids_are_completed(
    cli: object, app: Celery, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, other = make_plain(app, "Import\n\x1b[31mrows"), make_plain(app, "Send mails")
    monkeypatch.setattr("celery_batches_notify.cli.completion.find_app", lambda _: app)
    found = "\n".join(complete(kind, cli, app, "re"))
    assert "retry" in found and "reconcile" in found and "watch" not in found
    assert any("--until" in item for item in complete(kind, cli, app, "watch", "--u"))
    assert any("success" in item for item in complete(kind, cli, app, "watch", "--until", "su"))
    (found,) = complete(kind, cli, app, "show", made.bid[:6])
    assert made.bid in found and "\x1b" not in found
    both = "\n".join(complete(kind, cli, app, "cancel", ""))
    assert made.bid in both and other.bid in both


def test_a_project_that_cannot_be_loaded_completes_nothing(cli: object, app: Celery) -> None:
    assert complete(BashComplete, cli, app, "show", "") == []


def test_bash_completes_a_bid(app: Celery, server_url: str, installed: Path) -> None:
    made = make_plain(app, "Import rows")
    bin_ = Path(sys.executable).parent
    script = (
        "source <(_CELERY_COMPLETE=bash_source celery); "
        f"COMP_WORDS=(celery -A tests.projects.proj batch show {made.bid[:8]}) COMP_CWORD=5; "
        "_celery_completion celery; echo ${COMPREPLY[@]}"
    )
    env = {**os.environ, "PYTHONPATH": f"{installed}:{ROOT}", "BATCHES_TEST_URL": server_url}
    env["PATH"] = f"{bin_}:{env['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env=env, cwd=installed, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [made.bid]

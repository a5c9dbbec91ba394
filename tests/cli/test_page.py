"""The page about the commands names each of them with its options, and no other."""

from __future__ import annotations

import re
import subprocess
import sys

import click

from celery_batches_notify.cli import batch
from tests.docs.pages import DOCS, ROOT

PAGE = (DOCS / "reference" / "cli.md").read_text("utf-8")
OF_CHANNELS = {"--to", "--via_options", "--token", "--notify", "--url", "--OPTION"}


def test_every_command_and_option_stands_on_the_page_and_no_other() -> None:
    commands = set(re.findall(r"`celery -A proj batch ([\w|-]+)", PAGE))
    named = {name for each in commands for name in each.split("|")} | {"wait"}
    assert named == set(batch.commands)
    options = {
        name
        for command in batch.commands.values()
        for param in command.params
        if isinstance(param, click.Option)
        for name in param.opts
    }
    assert set(re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", PAGE)) - OF_CHANNELS == options


def test_help_of_every_command_is_whole_sentences() -> None:
    for name, command in batch.commands.items():
        assert (command.help or "").strip().endswith((".", "Ctrl-C.")), name


def test_celery_loads_next_to_nothing_for_the_commands() -> None:
    code = (
        "import sys, celery.bin.base; before = set(sys.modules); import celery_batches_notify.cli; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = [name for name in done.stdout.split() if name.startswith("celery_batches_notify")]
    assert set(ours) == {
        "celery_batches_notify",
        "celery_batches_notify.cli",
        *(f"celery_batches_notify.cli.{name}" for name in ("commands", "group", "parameters")),
        *(f"celery_batches_notify.cli.commands.{name}" for name in ("changing", "reading", "tending")),
    }
    assert set(done.stdout.split()) - set(ours) <= {"click.shell_completion"}

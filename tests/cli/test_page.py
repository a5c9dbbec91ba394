"""The page about the commands names each of them with its options, and no other."""

from __future__ import annotations

import re

import click

from celery_batches_notify.cli import batch
from tests.docs.pages import DOCS

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

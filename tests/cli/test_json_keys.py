"""The page about the commands names each key of their JSON."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from celery import Celery

from celery_batches_notify.cli import batch
from celery_batches_notify.membership import State
from tests.docs.pages import read_tables
from tests.support.terminal import Commands, Made, fail, make_batch

_OF_STATUS, _OF_FAILURE = [
    {code for row in table[1:] for code in re.findall(r"`(\w+)`", row[0])}
    for table in read_tables("reference/wire.md")
    if table[0][0] == "field"
][:2]


def keys_of_page() -> dict[str, set[str]]:
    """Return the keys that the page names for each command."""
    (table,) = [table for table in read_tables("reference/cli.md") if table[0][0] == "`--json` of"]
    found = {}
    for row in table[1:]:
        keys = set(re.findall(r"`(\w+)`", row[1]))
        keys |= (_OF_STATUS if "a status" in row[1] else set()) | (
            _OF_FAILURE if "a failure" in row[1] else set()
        )
        found |= dict.fromkeys(re.findall(r"`([\w-]+)`", row[0]), keys)
    return found


def prepare(app: Celery) -> Made:
    """Make a batch with a child, a failure that can be sent again, a callback and a sibling."""
    parent = make_batch(app, 0, "parent", keep_open=True)
    made = make_batch(app, 3, tags=["prod"], parent=parent.batch)
    make_batch(app, 1, "sibling", parent=parent.batch)
    made.report(State.DEAD, 0, failure=fail())
    made.report(State.SUCCEEDED, 1, 2)
    return made


COMMANDS: dict[str, Callable[[Made], tuple[str, ...]]] = {
    "list": lambda _: (),
    "show": lambda made: (made.bid, "--failures", "--actions", "--family", "--members", "succeeded"),
    "watch": lambda made: (made.bid,),
    "wait": lambda made: (made.bid,),
    "cancel": lambda made: (made.bid, "--yes"),
    "retry": lambda made: (made.bid,),
    "seal": lambda made: (made.bid, "--yes"),
    "delete": lambda made: (made.bid, "--yes"),
    "doctor": lambda made: (made.bid,),
    "reconcile": lambda _: (),
    "redeliver": lambda _: ("--event", "finish"),
    "sweep": lambda _: (),
    "metrics": lambda _: (),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_key_of_a_commands_json_is_on_the_page(app: Celery, command: Commands, name: str) -> None:
    made = prepare(app)
    command("retry", made.bid)  # a note of what was done by hand
    made.report(State.DEAD, 0, failure=fail(), attempt=2)
    ran = command(name, *COMMANDS[name](made), "--json")
    keys = {key for record in ran.records for key in record}
    assert keys <= keys_of_page()[name] | {"final", "exit_code"}


def test_every_command_with_json_has_its_keys_on_the_page() -> None:
    assert set(keys_of_page()) == set(batch.commands)


def test_a_sweep_counts_what_it_did_not_find_as_0(command: Commands) -> None:
    (last,) = command("sweep", "--json").records
    assert {key: value for key, value in last.items() if key in keys_of_page()["sweep"]} == {
        "swept": True,
        **dict.fromkeys(("looked_at", "published", "sent_again", "abandoned", "retired", "failed"), 0),
    }

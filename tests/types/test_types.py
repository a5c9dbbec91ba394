"""mypy and pyright accept right uses of the API and the documentation's examples, and refuse wrong ones."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from textwrap import indent
from typing import Any, get_args

import pytest

import celery_batches_notify
from celery_batches_notify.model import STATES, BatchStatus, CallbackStatus, Event, Failure
from celery_batches_notify.notifiers.registry import BUILT_IN
from celery_batches_notify.typing import (
    BuiltInChannel,
    CallbackDict,
    EventName,
    FailureDict,
    PlainEventName,
    StateName,
    StatusDict,
    TimedEventName,
)
from tests.docs.pages import ROOT, Block, all_pages, find_blocks, names_read

HERE = Path(__file__).parent
RIGHT, WRONG = HERE / "right.py", HERE / "wrong.py"
# What the names that a page's example takes from elsewhere are; of the others nothing is known.
KNOWN = {"app": "Celery[Any]", "batch": "Batch", "status": "BatchStatus"}
# Examples hold other packages too, in ways that checkers need not like: only what is said of ours counts.
OURS = r"Batch|EventName|StateName|StatusDict|TaskOfOne|OptionalMember|OptionalContext"
LENIENT = ["--check-untyped-defs", "--strict-equality", "--ignore-missing-imports", "--allow-redefinition"]

Faults = dict[str, set[int]]


def mypy(*files: Path, cache: Path) -> Faults:
    """Return the lines of each file that mypy refuses, without our configuration."""
    command = ["-m", "mypy", *LENIENT, "--config-file", "/dev/null", "--cache-dir", str(cache)]
    return lines_of(r"^(\S+?):(\d+): error: (.*)", run(*command, *map(str, files)))


def pyright(*files: Path, cache: Path) -> Faults:
    """Return the lines of each file that pyright refuses."""
    config = cache / "pyrightconfig.json"
    options = {"extraPaths": [str(ROOT)], "reportUnnecessaryComparison": "error"}
    config.write_text(json.dumps({"include": [str(file) for file in files], **options}))
    output = run("-m", "pyright", "-p", str(config), "--pythonpath", sys.executable)
    return lines_of(r"^\s*(\S+?):(\d+):\d+ - error: (.*)", output)


def write_examples(directory: Path) -> list[Path]:
    """Write each example of the documentation to a file, with the names that it takes from elsewhere."""
    files = []
    for block in (block for page in all_pages() for block in find_blocks(page)):
        file = directory / f"{re.sub(r'[^a-z]', '_', block.page.removesuffix('.md').lower())}_{block.line}.py"
        file.write_text(complete(block), "utf-8")
        files.append(file)
    return files


def complete(block: Block) -> str:
    names = names_read(block.code)
    ours = sorted({*celery_batches_notify.__all__} & {*names, *KNOWN.values()})
    given = [f"{name}: {KNOWN.get(name, 'Any')}" for name in sorted(names - {*ours})]
    head = [
        "from typing import Any",
        "from celery import Celery",
        f"from celery_batches_notify import {', '.join(ours)}",
        *given,
        "async def example() -> None:",
    ]
    return "\n".join([*head, indent(block.code, "    "), ""])


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (EventName, {*Event}),
        (StateName, {*STATES}),
        (BuiltInChannel, {*BUILT_IN}),
    ],
)
def test_the_literals_are_the_names_there_are(names: Any, known: set[str]) -> None:
    assert set(get_args(names)) == known


def test_each_event_is_declared_in_one_way() -> None:
    ways = [*get_args(PlainEventName), *get_args(TimedEventName), "progress"]
    assert sorted(ways) == sorted(get_args(EventName))


def test_the_typed_status_has_the_fields_of_a_real_one() -> None:
    failure = Failure(task_id="x", task="t", error_class="E", error_message="no", backtrace=None, retries=0)
    callback = CallbackStatus(event="finish", n=0, target="email", state="due", attempts=0, waits_for="x")
    status = BatchStatus(
        bid="b",
        description="",
        tags=(),
        state="open",
        total=0,
        pending=0,
        succeeded=0,
        failures=0,
        dead=0,
        created_at=datetime.now(UTC),
        callbacks=(callback,),
        failure_info=(failure,),
    ).as_dict()
    for typed, real in (
        (StatusDict, status),
        (CallbackDict, status["callbacks"][0]),
        (FailureDict, status["failure_info"][0]),
    ):
        assert set(typed.__annotations__) == set(real)


def run(*words: str) -> str:
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout


def lines_of(pattern: str, output: str) -> Faults:
    assert re.search(r"Success|Found \d+ error|\d+ errors?,", output), output
    found: Faults = {}
    for file, line, words in re.findall(pattern, output, re.MULTILINE):
        if Path(file).name in (RIGHT.name, WRONG.name) or re.search(OURS, words):
            found.setdefault(Path(file).name, set()).add(int(line))
    return found


@pytest.mark.timeout(400)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_right_uses_pass_and_each_wrong_one_is_refused(
    checker: Callable[..., Faults], tmp_path: Path
) -> None:
    files = [Path(shutil.copy(file, tmp_path)) for file in (RIGHT, WRONG)]
    found = checker(*files, *write_examples(tmp_path), cache=tmp_path)
    marked = {n for n, line in enumerate(WRONG.read_text("utf-8").splitlines(), 1) if "# wrong:" in line}
    assert len(marked) == 13
    assert found == {WRONG.name: marked}

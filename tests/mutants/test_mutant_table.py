"""The table of mutants fits the code as it is; `tox -e mutants` runs them."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.mutant_table import MUTANTS, Mutant
from tests.mutants.safeties import find_marks, mutate

ROOT = Path(__file__).parents[2]
MARKS = find_marks(ROOT / "celery_batches_notify")
# A name that is no attribute; what stands in quotes is none.
NAME = re.compile(r"""(?<![.\w])[A-Za-z_]\w*|"[^"]*"|'[^']*'""")
KNOWN = {*keyword.kwlist, *dir(builtins), "true", "false", "then", "end", "local"}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.safety)
def test_a_mutant_applies_to_its_mark_and_its_test_exists(mutant: Mutant) -> None:
    [place] = [place for name, place in MARKS if name == mutant.name]
    text = place.path.read_text("utf-8")
    mutated = mutate(text, place, mutant.new)
    assert mutated.split() != text.split()
    names = {name for name in NAME.findall(mutant.new) if name[0] not in "\"'"}
    assert names <= {*re.findall(r"\w+", text), *KNOWN}  # else a wrong name would kill it
    if place.path.suffix == ".py":
        ast.parse(mutated)
    path, _, name = mutant.killer.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)


def test_no_safety_is_named_twice_and_no_mark_is_without_a_mutant() -> None:
    assert len({mutant.safety for mutant in MUTANTS}) == len(MUTANTS)
    assert Counter(name for name, _ in MARKS) == Counter({mutant.name for mutant in MUTANTS})


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("a.py", "if a:  # safety: x\n    b\n\n    c\nd", "", "\nd"),
        ("a.py", "if a:  # safety: x\n    b\nd", "if c:", "if c:\n    b\nd"),
        ("a.py", "if a:\n    b()  # why  # safety: x\nd", "", "if a:\n    pass\nd"),
        ("a.py", "f(\n    a=1,  # safety: x\n)", "", "f(\n    \n)"),
        ("a.py", "# safety: x\nreturn a", "return b", "# safety: x\nreturn b"),
        ("a.lua", "if a then -- safety: x\n  b()\nend\nd()", "", "\nd()"),
        ("a.lua", "if a then b() end -- safety: x\nd()", "", "\nd()"),
    ],
)
def test_a_mutant_replaces_the_marked_line_and_its_block(
    tmp_path: Path, file: str, old: str, new: str, expected: str
) -> None:
    (tmp_path / file).write_text(old, "utf-8")
    [(name, place)] = find_marks(tmp_path)
    assert (name, mutate(old, place, new)) == ("x", expected)

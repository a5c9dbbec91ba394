from __future__ import annotations

import json
from pathlib import Path

import pytest

from celery_batches_notify.demo.app import MEASURES_FILE, SUM_FILE, write_sum
from celery_batches_notify.demo.modules import find_modules, measure_module, standard_library

MODULE = '''\
"""A module."""

class Outer:
    class Inner:
        def method(self):
            if self:
                def nested():
                    return [x for x in "" if x]

async def main():
    pass
'''


def test_functions_and_classes_at_every_depth_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    assert measure_module(path) == {"bytes": len(MODULE), "lines": 11, "functions": 3, "classes": 2}


@pytest.mark.parametrize(("text", "lines"), [("", 0), ("x = 1", 1), ("x = 1\n", 1), ("x = 1\n\n", 2)])
def test_lines_are_counted_with_and_without_a_last_newline(tmp_path: Path, text: str, lines: int) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)
    assert measure_module(path)["lines"] == lines


def test_a_module_is_decoded_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_bytes(b"# coding: latin-1\nname = 'Andr\xe9'\n")
    assert measure_module(path)["lines"] == 2


def test_a_module_that_python_warns_of_is_measured_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("x = '\\d'\ny = 1 is 1\n")
    assert measure_module(path)["lines"] == 2


def test_installed_packages_are_not_found(tmp_path: Path) -> None:
    for name in ("a.py", "b.txt", "inner/c.py", "site-packages/d.py", "inner/dist-packages/e.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_modules(tmp_path) == [tmp_path / "a.py", tmp_path / "inner" / "c.py"]


@pytest.mark.parametrize(("at_most", "found"), [(1, "0"), (3, "036"), (10, "0123456789"), (11, "0123456789")])
def test_a_part_of_the_modules_is_spread_over_all(tmp_path: Path, at_most: int, found: str) -> None:
    for number in range(10):
        (tmp_path / f"{number}.py").touch()
    assert "".join(path.stem for path in find_modules(tmp_path, at_most)) == found


def test_the_standard_library_is_found() -> None:
    assert {"ast.py", "tokenize.py", "_pydecimal.py"} <= {p.name for p in find_modules(standard_library())}


def test_a_module_that_was_measured_twice_counts_once(tmp_path: Path) -> None:
    lines = [["a", {"lines": 2}], ["b", {"lines": 3}], ["a", {"lines": 2}]]
    (tmp_path / MEASURES_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_sum(tmp_path, "x")
    assert json.loads((tmp_path / SUM_FILE).read_text()) == {"bid": "x", "modules": 2, "lines": 5}

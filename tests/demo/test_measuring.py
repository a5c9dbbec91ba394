from __future__ import annotations

from pathlib import Path

import pytest

from celery_batches_notify.demo.measuring import (
    Measure,
    add_up,
    find_modules,
    has_broken_modules,
    measure_module,
    standard_library,
    write_broken_modules,
)

MODULE = '''\
"""A module."""

class Outer:
    class Inner:
        def method(self):
            if self:
                def nested():
                    return [x for x in "" if x]
            else:
                pass

async def main():
    try:
        async for _ in main():
            pass
    except ValueError:
        match 1:
            case 1:
                pass
'''


def measure(path: str, branches: int) -> Measure:
    return Measure(path=path, size_bytes=10, lines=2, functions=1, classes=0, branches=branches)


def test_statements_at_every_depth_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    assert measure_module(path) == Measure(
        path=str(path), size_bytes=len(MODULE), lines=19, functions=3, classes=2, branches=4
    )


@pytest.mark.parametrize(("text", "lines"), [("", 0), ("x = 1", 1), ("x = 1\n", 1), ("x = 1\n\n", 2)])
def test_lines_are_counted_with_and_without_a_last_newline(tmp_path: Path, text: str, lines: int) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)
    assert measure_module(path).lines == lines


def test_a_module_is_decoded_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_bytes(b"# coding: latin-1\nname = 'Andr\xe9'\n")
    assert measure_module(path).lines == 2


def test_what_python_would_warn_of_is_measured_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("x = '\\d'\ny = 1 is 1\n")
    assert measure_module(path).lines == 2


def test_the_broken_modules_cannot_be_measured(tmp_path: Path) -> None:
    paths = write_broken_modules(tmp_path)
    assert len(paths) == 3
    for path in paths:
        with pytest.raises((SyntaxError, UnicodeDecodeError)):
            measure_module(path)


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
    names = {path.name for path in find_modules(standard_library())}
    assert {"ast.py", "tokenize.py", "_pydecimal.py"} <= names
    assert has_broken_modules(standard_library()) == ("bad_coding.py" in names)


def test_a_module_that_was_measured_twice_counts_once() -> None:
    total = add_up([measure("a", 1), measure("b", 5), measure("a", 1)])
    assert (total.modules, total.lines, total.most_branched, total.most_branches) == (2, 4, "b", 5)


def test_of_no_module_the_sum_is_nothing() -> None:
    assert add_up([]).modules == 0

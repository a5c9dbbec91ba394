"""The work of the demo: find Python modules, read, decode, parse and measure them, add the measures up."""

from __future__ import annotations

import ast
import io
import sysconfig
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

INSTALLED = {"site-packages", "dist-packages"}
BROKEN_BY_DESIGN = Path("test", "tokenizedata")
_BROKEN = {
    "bad_coding.py": b"# coding: uft-8\n",
    "latin_1.py": b"name = 'Andr\xe9'\n",
    "python_2.py": b"print 'Hello'\n",
}
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """The size of one module. `branches` counts the places where it may go one way or another."""

    path: str
    size_bytes: int
    lines: int
    functions: int
    classes: int
    branches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """The size of many modules, and which one branches most."""

    modules: int
    size_bytes: int
    lines: int
    functions: int
    classes: int
    most_branched: str
    most_branches: int


def standard_library() -> Path:
    """Return where the running Python keeps its standard library."""
    return Path(sysconfig.get_path("stdlib"))


def find_modules(root: Path, at_most: int | None = None) -> list[Path]:
    """Return the `*.py` files under a directory, without installed packages.

    Args:
        root: The directory.
        at_most: Take so many of them, spread evenly over all.
    """
    found = sorted(p for p in root.rglob("*.py") if not INSTALLED & set(p.relative_to(root).parts))
    found = [path for path in found if path.is_file()]
    if at_most is None or at_most >= len(found):
        return found
    return [found[i * len(found) // at_most] for i in range(at_most)]


def has_broken_modules(root: Path) -> bool:
    """Whether a standard library holds the modules that Python's own tests need to be broken."""
    return (root / BROKEN_BY_DESIGN).is_dir()


def write_broken_modules(directory: Path) -> list[Path]:
    """Write a few modules that cannot be decoded or parsed; return their paths."""
    paths = [directory / name for name in _BROKEN]
    for path in paths:
        path.write_bytes(_BROKEN[path.name])
    return paths


def measure_module(path: Path) -> Measure:
    """Read, decode, parse and measure one module.

    Raises:
        OSError: It cannot be read.
        SyntaxError: It names an encoding that does not exist, or is not Python of this version.
        UnicodeDecodeError: It is not written in the encoding it names.
        ValueError: It holds a null byte.
    """
    content = path.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    text = content.decode(encoding)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Python thinks of a module's style is not asked here
        tree = ast.parse(text, filename=path.name)
    nodes = list(_walk_statements(tree))
    return Measure(
        path=str(path),
        size_bytes=len(content),
        lines=text.count("\n") + (not text.endswith("\n") and text != ""),
        functions=sum(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in nodes),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        branches=sum(isinstance(node, BRANCHES) for node in nodes),
    )


def add_up(measures: Iterable[Measure]) -> Sum:
    """Add measures up; a module that was measured twice counts once."""
    each = list({measure.path: measure for measure in measures}.values())
    most = max(each, key=lambda measure: measure.branches, default=None)
    return Sum(
        modules=len(each),
        size_bytes=sum(measure.size_bytes for measure in each),
        lines=sum(measure.lines for measure in each),
        functions=sum(measure.functions for measure in each),
        classes=sum(measure.classes for measure in each),
        most_branched=most.path if most else "",
        most_branches=most.branches if most else 0,
    )


def _walk_statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield all statements, inner ones too, but no expressions, which are most of a tree."""
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting.extend(getattr(node, name, ()))

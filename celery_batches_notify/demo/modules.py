"""Find Python modules and measure them: the work that the demo's tasks do."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from pathlib import Path

INSTALLED = {"site-packages", "dist-packages"}


def standard_library() -> Path:
    """Return where the running Python keeps its standard library."""
    return Path(sysconfig.get_path("stdlib"))


def find_modules(root: Path, at_most: int | None = None) -> list[Path]:
    """Return the `*.py` files under a directory, without installed packages.

    Args:
        root: The directory.
        at_most: How many to return, spread evenly over all of them; None for all.
    """
    found = sorted(p for p in root.rglob("*.py") if not INSTALLED & set(p.relative_to(root).parts))
    found = [path for path in found if path.is_file()]
    if at_most is None or at_most >= len(found):
        return found
    return [found[i * len(found) // at_most] for i in range(at_most)]


def measure_module(path: Path) -> dict[str, int]:
    """Return a module's bytes, lines, functions and classes.

    Raises:
        OSError: It cannot be read.
        SyntaxError: This Python cannot decode or parse it.
        ValueError: It holds a null byte.
    """
    content = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's opinion of a module's style
        kinds = [type(node) for node in ast.walk(ast.parse(content, filename=path.name))]
    return {
        "bytes": len(content),
        "lines": len(content.splitlines()),
        "functions": kinds.count(ast.FunctionDef) + kinds.count(ast.AsyncFunctionDef),
        "classes": kinds.count(ast.ClassDef),
    }

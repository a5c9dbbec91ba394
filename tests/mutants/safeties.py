"""Find the code that a mark names in the package, and take it away."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

MARK = re.compile(r"\s*(?:#|--) safety: ([a-z-]+)$")
# The code of a line without its indentation and its comments.
CODE = re.compile(r"\s*(.*?)(?:\s+(?:#|--) .*)?$")


@dataclass(frozen=True, slots=True)
class Marked:
    """A file of the package, and the line that a mark names, counted from 0."""

    path: Path
    line: int


def find_marks(package: Path) -> list[tuple[str, Marked]]:
    """Return every mark's name and place. A mark that has a line to itself names the next line."""
    return [
        (found[1], Marked(path, number + (found.start() == 0)))
        for path in sorted([*package.rglob("*.py"), *package.rglob("*.lua")])
        for number, line in enumerate(path.read_text("utf-8").splitlines())
        if (found := MARK.search(line))
    ]


def mutate(text: str, place: Marked, new: str) -> str:
    """Return the text with `new` instead of the marked line, and of its block unless `new` opens one."""
    lines = text.splitlines()
    marked = lines[place.line]
    indent = marked[: len(marked) - len(marked.lstrip())]
    after = place.line + 1
    if _opens_block(marked) and not _opens_block(new):
        while after < len(lines) and (not lines[after] or lines[after].startswith(f"{indent} ")):
            after += 1
        after += place.path.suffix == ".lua"  # the block's `end`
    before, rest = lines[: place.line], lines[after:]
    mutated = "\n".join([*before, indent + new, *rest])
    return mutated if new or _parses(mutated, place) else "\n".join([*before, f"{indent}pass", *rest])


def _opens_block(line: str) -> bool:
    found = CODE.match(line)
    return found is not None and found[1].endswith((":", " then", " do"))


def _parses(text: str, place: Marked) -> bool:
    if place.path.suffix == ".py":
        try:
            ast.parse(text)
        except SyntaxError:
            return False
    return True

"""The pages of the documentation, and what is in them."""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_page(name: str) -> str:
    """Return the text of a page: `README.md`, or a path below `docs/`."""
    return (ROOT / name if name == "README.md" else DOCS / name).read_text("utf-8")


def all_pages() -> list[str]:
    """Return the names of all pages."""
    return ["README.md", *sorted(str(path.relative_to(DOCS)) for path in DOCS.glob("*/*.md"))]


def find_blocks(page: str, language: str = "python") -> list[Block]:
    """Return the blocks of one language on a page."""
    text = read_page(page)
    return [
        Block(page, text.count("\n", 0, match.start(2)) + 1, match[1], match[2])
        for match in FENCE.finditer(text)
        if match[1] == language
    ]


def read_tables(page: str) -> list[list[list[str]]]:
    """Return the tables of a page. Each is a list of rows, the head first, and a row a list of cells."""
    tables: list[list[list[str]]] = []
    before = ""
    for line in read_page(page).splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not before.startswith("|"):
                tables.append([])
            if not set(line) <= set("|-: "):
                tables[-1].append(cells)
        before = line
    return tables


def first_codes(page: str, head: str) -> list[str]:
    """Return the code in the first column of the tables with this first head."""
    rows = [row for table in read_tables(page) if table[0][0] == head for row in table[1:]]
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row[0])]


def names_read(code: str) -> set[str]:
    """Return the names that a block reads but does not define."""
    tree = ast.parse(code)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                made.add(name)
            case ast.arg(arg=name):
                made.add(name)
            case ast.alias(name=name, asname=asname):
                made.add(asname or name.partition(".")[0])
            case ast.ExceptHandler(name=str(name)):
                made.add(name)
    return {node.id for node in names if isinstance(node.ctx, ast.Load)} - made - set(dir(builtins))

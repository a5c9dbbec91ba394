"""The outcome table as the documentation shows it, between two marks on its page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.support.outcome_expect import POOLS, Expect, NotHere, Row

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "outcomes.md"
BEGIN = "<!-- begin of the outcome table: written by tests/support/outcome_table.py --write -->"
END = "<!-- end of the outcome table -->"
HEAD = "| what happened | state after | token | `error_class` | elsewhere |\n|---|---|---|---|---|"
USERS_OWN = ("ValueError", "KeyError", "tests.projects.proj_outcomes.")


def render(groups: Mapping[str, tuple[Row, ...]]) -> str:
    """Return the table as Markdown, one section for each group of rows."""
    sections = [f"### {title}\n\n{HEAD}\n" + "\n".join(map(_line, rows)) for title, rows in groups.items()]
    return "\n\n".join(sections)


def read_page() -> str:
    """Return what the page says between the marks."""
    return PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def write_page(table: str) -> None:
    """Put the table between the marks of the page."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}", "utf-8")


def _line(row: Row) -> str:
    what = row.what if row.needs <= (5, 5) else f"{row.what} (Celery {row.needs[0]}.{row.needs[1]})"
    expect = row.expect
    cells = (what, _state(expect), _tokens(expect), _errors(expect), _elsewhere(row))
    return f"| {' | '.join(cells)} |"


def _state(expect: Expect) -> str:
    return expect.says or expect.state


def _tokens(expect: Expect) -> str:
    if expect.says.startswith("unchanged"):
        return "none"
    return " ".join(f"`{token}`" for token in expect.tokens if token in "+-")


def _errors(expect: Expect) -> str:
    shown = {
        "the exception's" if error.startswith(USERS_OWN) else f"`{error.rpartition('.')[2]}`": None
        for error in expect.errors
        if error
    }
    return " or ".join(shown)


def _elsewhere(row: Row) -> str:
    """Where it ends otherwise: pools that agree are named together."""
    said: dict[str, list[str]] = {}
    for pool in POOLS:
        if pool in row.pools:
            said.setdefault(_other(row.pools[pool]), []).append(pool)
        if pool in row.older:
            said.setdefault(_other(row.older[pool]), []).append(f"{pool} before Celery 5.7")
    return "; ".join(f"{', '.join(where)}: {what}" for what, where in said.items())


def _other(expect: Expect | NotHere) -> str:
    if isinstance(expect, NotHere):
        return f"not possible: {expect.why}"
    errors = _errors(expect)
    return f"{_state(expect)} ({errors})" if errors else _state(expect)

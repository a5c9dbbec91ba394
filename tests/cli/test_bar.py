"""The bar: in proportion, nothing that is there is left out, and never wider than the terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_batches_notify.cli.bar import bar_line, cut, share, width
from tests.support.samples import progress

COUNT = st.integers(0, 1_000_000)
CELLS = re.compile("[█▒▓░]+")


def line(columns: int, counts: tuple[int, ...], name: str, *notes: str, ascii_only: bool = False) -> str:
    return bar_line(
        name, progress(*counts), columns, *notes, ascii_only=ascii_only, paint=lambda text, _: text
    )


@given(st.tuples(COUNT, COUNT, COUNT, COUNT), st.integers(1, 200))
def test_cells_are_shared_out_whole_and_each_part_has_one(counts: tuple[int, ...], cells: int) -> None:
    shared = share(counts, cells)
    assert sum(shared) == cells and min(shared) >= 0
    if cells >= 4:
        assert all(got > 0 for got, count in zip(shared, counts, strict=True) if count)


@given(st.tuples(COUNT, COUNT, COUNT, COUNT), st.integers(40, 200), st.text(max_size=60), st.booleans())
def test_a_line_fits_into_its_terminal(
    counts: tuple[int, ...], columns: int, name: str, ascii_only: bool
) -> None:
    drawn = line(columns, counts, name, "412/min", "about 3 min at this pace", ascii_only=ascii_only)
    assert width(drawn) < columns
    assert re.search(r"\d%", drawn)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (40, "Import 89% 892/1,000"),
        (64, "Import 89% 880 ok 60 retry 12 dead /1,000"),
        (80, "Import 89% 880 ok 60 retry 12 dead /1,000 412/min"),
        (140, "Import 89% 880 ok 60 retry 12 dead /1,000 412/min about 3 min at this pace"),
    ],
)
def test_what_fits_is_shown(columns: int, words: str) -> None:
    shown = line(columns, (880, 60, 12, 48), "Import", "412/min", "about 3 min at this pace")
    assert CELLS.sub("", shown).split() == words.split()
    assert [cell in shown for cell in "█▒▓░"] == [True] * 4


def test_a_name_is_cut_where_its_columns_end() -> None:
    assert cut("Rechnungen", 10) == "Rechnungen"
    assert cut("Rechnungen", 6) == "Rechn…"
    assert cut("東京東京", 5) == "東京…"
    assert width("e\u0301") == 1
    assert "…" not in line(60, (1, 0, 0, 1), "a" * 100, ascii_only=True)

"""Escaping: it breaks markup and mentions, and leaves other text alone."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_batches_notify.notifiers.escaping import (
    break_mentions,
    escape_html,
    escape_slack,
    fence,
    fit,
    soften,
)
from celery_batches_notify.text import one_line

ESCAPES = [break_mentions, soften, escape_html, escape_slack]


@pytest.mark.parametrize("escape", ESCAPES)
def test_plain_words_stay_as_they_are(escape: object) -> None:
    for text in (
        "Import rows",
        "48 of 50",
        "Größe: 3 · 5 €",
        "日本語 🙂",
        "a @ b",
        "ops+x@mail.example.com",
        "50 % (x_y*z)",
        "f(x)[0]",
        "one `two` ``three``",
    ):
        assert escape(text) == text  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "softened"),
    [
        ("@here", "@ here"),
        ("(@ann)", "(@ ann)"),
        ("a@all", "a@ all"),
        ("ops@everyone", "ops@ everyone"),
        ("<@123>", "< @ 123>"),
        ("[a](b)", "[a] (b)"),
        ("```", "`` `"),
        ("``````", "`` `` ``"),
    ],
)
def test_markup_is_broken_by_a_visible_space(text: str, softened: str) -> None:
    assert soften(text) == softened


@given(text=st.text(max_size=50))
def test_the_text_reads_the_same_without_invisible_characters(text: str) -> None:
    bare = text.replace(" ", "")
    assert break_mentions(text).replace(" ", "") == bare
    assert soften(text).replace(" ", "") == bare
    assert html.unescape(escape_html(text)) == html.unescape(html.escape(text))
    assert html.unescape(escape_slack(text).replace("&amp;", "&")) in (html.unescape(text), text)


@given(lines=st.lists(st.text("`a\n", max_size=12), min_size=1, max_size=4))
def test_only_its_own_end_ends_a_block_of_code(lines: list[str]) -> None:
    block = fence(tuple(lines))
    assert block.count("```") in (0, 2)
    assert block.replace(" ", "").removeprefix("```\n").removesuffix("\n```") == "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  two\nlines\r\n ", "two lines"),
        ("a\x00b\x1b[31mc\x85d", "a b [31mc d"),
        ("\u202eevil\u2066\ufeff", "evil"),
        ("half \ud83d", "half \ufffd"),
        ("family 👩\u200d👧", "family 👩\u200d👧"),
        ("x" * 11, "xxxxxxxxx…"),
        ("x" * 10, "xxxxxxxxxx"),
        ("123456789 1234", "123456789…"),
        (42, "42"),
    ],
)
def test_a_text_becomes_one_line(text: object, line: str) -> None:
    assert one_line(text, 10 if len(str(text)) > 9 and str(text)[0] in "x1" else 50) == line


@given(text=st.text(max_size=300), limit=st.integers(1, 60))
def test_a_line_is_never_too_long_and_never_broken(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    line.encode()


@given(text=st.text(max_size=100), limit=st.integers(1, 60))
def test_an_escaped_text_fits_and_is_not_cut_within_an_escape(text: str, limit: int) -> None:
    fitted = fit(text, limit, escape_html)
    assert len(fitted) <= limit
    assert fitted == escape_html(next(text[:n] for n in range(101) if escape_html(text[:n]) == fitted))

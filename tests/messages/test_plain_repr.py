"""`plain_repr` says what Celery's `saferepr` says."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from celery.utils.saferepr import saferepr
from hypothesis import given
from hypothesis import strategies as st

from celery_batches_notify.messages.plain_repr import plain_repr

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())  # surrogates too
    | st.sampled_from(["it's", '"', "\\", "x" * 60, "a " * 40, b"x", b"\xff", 2**80])
    | st.sampled_from([date(2026, 1, 1), Decimal("1.50"), UUID(int=5), frozenset(), {1}, range(3)])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.lists(VALUES, max_size=3).map(tuple), st.sampled_from([20, 60, 1024]), st.sampled_from([0, 1, 3, 5])
)
def test_any_arguments_look_as_celery_shows_them(args: Any, maxlen: int, maxlevels: int) -> None:
    assert plain_repr(args, maxlen, maxlevels) == saferepr(args, maxlen, maxlevels=maxlevels)


def test_a_value_that_contains_itself_looks_as_celery_shows_it() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    assert plain_repr((circle,), 1024, 3) == saferepr((circle,), 1024, maxlevels=3)


def test_a_value_that_stands_in_two_places_is_shown_twice() -> None:
    shared = {"a": [1]}
    assert plain_repr((shared, shared), 1024, 3) == saferepr((shared, shared), 1024, maxlevels=3)


@pytest.mark.parametrize(
    "text", ["it's", 'say "yes"', """both ' and \"""", "\\ \n \x00 \x7f", "\u2028\ud800é😀"]
)
def test_a_text_is_shown_with_its_own_quotes_and_escapes(text: str) -> None:
    for args in ((text,), ([text, {"a": text, text: (text,)}],), (1, "plain", text)):
        assert plain_repr(args, 1024, 3) == saferepr(args, 1024, maxlevels=3)


@pytest.mark.parametrize("length", [14, 15, 16, 17, 100])
def test_what_is_too_long_is_cut_as_celery_cuts_it(length: int) -> None:
    args = (["x" * length], "word " * 30)
    for maxlen in (20, 60):
        assert plain_repr(args, maxlen, 3) == saferepr(args, maxlen, maxlevels=3)
    assert len(plain_repr(args, 20, 3)) < 60

"""The bar of a batch in SVG."""

from __future__ import annotations

from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from celery_batches_notify import Batch
from celery_batches_notify.bar import LEAST_PERCENT, count_parts, draw_bar, measure_parts
from tests.support.samples import progress

COUNTS = st.integers(0, 1_000_000)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_each_part_that_is_not_empty_can_be_seen_and_all_fill_the_bar(
    succeeded: int, failing: int, dead: int, waiting: int
) -> None:
    of = progress(succeeded, failing, dead, waiting)
    parts = measure_parts(of)
    assert set(parts) == {name for name, n in count_parts(of).items() if n}
    at = 0.0
    for x, width in parts.values():
        assert abs(x - at) < 0.01
        assert width >= LEAST_PERCENT - 0.001
        at = x + width
    assert not parts or abs(at - 100) < 0.01


def test_the_bar_says_its_figures() -> None:
    html = draw_bar(progress(880, 108, 12, 0))
    assert 'aria-label="880 succeeded, 108 failing, 12 dead, 0 waiting, of 1,000"' in html
    assert "style=" not in html, "the page's policy refuses inline styles"


def test_a_notebook_shows_the_bar_and_no_markup_of_the_user(app: Celery) -> None:
    batch = Batch("<b>Import</b>", app=app)
    assert batch._repr_html_() is None, "it is not stored yet"
    batch.seal()
    html = batch._repr_html_()
    assert html is not None
    assert "&lt;b&gt;Import&lt;/b&gt;" in html
    assert "<svg" in html
    assert "0 succeeded" in progress(0, 0, 0, 1)._repr_html_()

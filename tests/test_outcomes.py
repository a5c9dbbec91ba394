"""The outcome table, every row, in every pool, on the Celery line that is installed."""

from __future__ import annotations

from collections.abc import Iterator

import celery
import pytest
from outcome_stage import Seen, rows_for, stage
from outcome_table import POOLS, ROWS, NotHere, Row

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module", params=POOLS)
def played(request: pytest.FixtureRequest, server_url: str) -> Iterator[tuple[str, dict[str, Seen]]]:
    """A pool, and what became of each row in it: all rows are played at once."""
    with stage(server_url, request.param, rows_for(ROWS, request.param, celery.VERSION)) as made:
        yield request.param, made.play()


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_the_outcome_table(played: tuple[str, dict[str, Seen]], row: Row) -> None:
    pool, seen = played
    line = f"Celery {celery.__version__} {pool} {row.name}"
    expect = row.expected(pool, celery.VERSION)
    if isinstance(expect, NotHere):
        print(f"{line}: not possible here: {expect.why}")
        return
    if row.name not in seen:
        pytest.skip(f"needs Celery {'.'.join(map(str, row.needs))}")
    was = seen[row.name]
    print(f"{line}: {was.state} {was.tokens or '(no token)'} runs={was.runs} {was.counters} {was.error}")
    assert (was.state, was.tokens, was.runs) == (expect.state, expect.tokens, expect.runs)
    assert was.error in expect.errors
    assert was.died == expect.died
    assert was.counters == {
        "total": 1,
        "pending": expect.state != "succeeded",
        "succeeded": expect.state == "succeeded",
        "failures": expect.state in ("failing", "dead"),
        "dead": expect.state == "dead",
    }

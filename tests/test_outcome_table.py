"""Every row of the outcome table, in every pool, with the installed Celery."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import celery
import pytest
from redis import Redis

from celery_batches_notify import Batch
from tests.support.outcome_expect import POOLS, NotHere, Row
from tests.support.outcome_page import read_page, render
from tests.support.outcome_stage import Seen, rows_for, stage
from tests.support.outcome_table import GROUPS, ROWS
from tests.support.servers import running_worker

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module", params=POOLS)
def played(request: pytest.FixtureRequest, server_url: str) -> Iterator[tuple[str, dict[str, Seen]]]:
    """Play all rows at once in one pool; return the pool and the outcome of each row."""
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


@pytest.mark.parametrize("pool", POOLS)
def test_the_limits_of_the_worker_are_known_where_its_tasks_run(
    pool: str, make_app: Callable[..., celery.Celery], server_url: str, redis: Redis
) -> None:
    app = make_app(broker=server_url)
    limits = ("--time-limit", "70", "--soft-time-limit", "60", "-Q", "limits")
    with running_worker(server_url, pool, *limits, app="proj_outcomes", BATCHES_TEST_BROKER=server_url):
        batch = Batch(app=app)
        (result,) = batch.add(app.signature("tells_limits", queue="limits"))
        assert batch.join(timeout=30).state == "success"
    assert redis.get(f"outcomes:limits:{result.id}") == b"[70.0, 60.0]"


def test_the_documentation_shows_this_table() -> None:
    """`python -m tests.support.outcome_table --write` fixes the page."""
    assert read_page() == render(GROUPS)

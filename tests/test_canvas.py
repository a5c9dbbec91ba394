"""Canvases in batches, in real workers: every part is counted, and no batch ends early or stays open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.canvas_runs import (
    BY_A_MEMBER,
    INSIDE,
    OTHER,
    WAYS,
    Runs,
    Setting,
    canvas_setting,
    check,
    run_all,
)
from tests.support.canvas_shapes import SHAPES, Shape, docs_table

pytestmark = pytest.mark.timeout(300)
ALL_WAYS = [*WAYS, INSIDE, BY_A_MEMBER]


@pytest.fixture(scope="module", params=["redis", "file system"])
def backend(request: pytest.FixtureRequest, server_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return server_url if request.param == "redis" else f"file://{tmp_path_factory.mktemp('results')}"


@pytest.fixture(scope="module", params=["prefork", "threads"])
def setting(request: pytest.FixtureRequest, server_url: str, backend: str) -> Iterator[Setting]:
    with canvas_setting(server_url, request.param, backend) as setting:
        yield setting


@pytest.fixture(scope="module")
def runs(setting: Setting) -> Runs:
    return run_all(setting, SHAPES, ALL_WAYS)


@pytest.mark.parametrize("way", ALL_WAYS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_shape_counts_all_its_parts_and_ends_when_they_have(
    setting: Setting, runs: Runs, shape: Shape, way: str
) -> None:
    check(runs[shape.name, way], total=setting.total(shape, way), dead=shape.dead)


def test_a_batch_counts_no_canvas_of_blocks_inside_its_own(runs: Runs) -> None:
    check(runs[OTHER], total=1, dead=0)


def test_the_docs_show_the_shapes_as_they_are_tested() -> None:
    page = Path(__file__).parents[1] / "docs" / "explanation" / "canvas.md"
    assert docs_table() in page.read_text("utf-8")

"""The benchmark without its figures: every way is taken that should be, and its messages are Celery's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.bench import checking, page_table
from tests.bench.costs import Cost, Row, by_turns, cost_row, speed_row, value_row
from tests.bench.sections import producer, store
from tests.support.servers import need, rabbitmq_url

MARKERS = "# Fast\n\n<!-- bench -->\nold\n<!-- end of bench -->\n\nThe rest.\n"


@pytest.mark.parametrize("kind", checking.KINDS, ids=str)
def test_messages_of_all_ways_are_stamped_and_celerys(
    redis: Redis, server_url: str, kind: dict[str, Any]
) -> None:
    checking.check(server_url, server_url, kind, "Stamp")


@pytest.mark.parametrize("kind", checking.ON_RABBITMQ, ids=str)
def test_messages_of_all_ways_are_prepared_and_celerys(
    redis: Redis, server_url: str, kind: dict[str, Any]
) -> None:
    url = rabbitmq_url()
    need("a RabbitMQ", url)
    checking.check(url, server_url, kind, "Prepared")


def test_a_wrong_way_is_seen(redis: Redis, server_url: str) -> None:
    with pytest.raises(AssertionError, match="not Prepared"):
        checking.check(server_url, server_url, {"payload": "int"}, "Prepared")


def test_producers_and_the_store_are_measured(server_url: str) -> None:
    with producer.open_producers(server_url, server_url, {"payload": "int"}) as one:
        costs = producer.run_by_turns(one, ["delay", "map", "block", "add"], 1, 3)
        assert {name: len(each) for name, each in costs.items()} == dict.fromkeys(costs, 1)
        assert one.ask("map_memory", 10)["grown"] >= 0
    rows = {row.what for row in store.measure(1, 20, 3, 1000, reporters=1)}
    assert rows >= {"the script, grouped by 10", "`Batch.all()` over 3"}


def test_cases_run_by_turns_and_the_first_round_only_warms_up() -> None:
    seen: list[str] = []
    cases = {name: lambda name=name: seen.append(name) or Cost(len(seen), 1.0) for name in "ab"}
    assert by_turns(cases, 2) == {"a": [Cost(4, 1.0), Cost(5, 1.0)], "b": [Cost(3, 1.0), Cost(6, 1.0)]}
    assert "".join(seen) == "abbaab"


def test_rows_say_whether_their_aims_are_reached() -> None:
    fast, slow = [Cost(2.0, 4.0)] * 3, [Cost(90.0, 100.0), Cost(100.0, 100.0), Cost(120.0, 100.0)]
    row = speed_row("part", "map", fast, slow, least=45)
    assert (row.measured, row.spread, row.wall) == ("50.0× (2.0 µs)", "45.0–60.0", "25.0×")
    assert (row.aim, row.is_reached) == ("≥ 45×", True)
    assert not cost_row("part", "member", slow, fast, most=1.15).is_reached
    assert value_row("part", "reports", [99_000.0], "a second", least=100_000).aim == "≥ 100,000 a second"
    assert value_row("part", "memory", [0.5], "KB").is_reached is None


def test_the_table_and_the_picture_are_written(tmp_path: Path) -> None:
    page, picture = tmp_path / "page.md", tmp_path / "bench.svg"
    page.write_text(MARKERS)
    rows = [
        Row(part="Store", what="a figure", measured="1.0 µs", aim="≤ 2 µs", is_reached=True),
        Row(part="Store", what="another", measured="3.0 µs", aim="≤ 2 µs", is_reached=False),
        Row(part="Sending <…>", what="`batch.map`", measured="40× (9 µs)", value=40.0),
    ]
    page_table.write(rows, page=page, picture=picture)
    page_table.write(rows, page=page, picture=picture)
    text = page.read_text()
    assert text.startswith("# Fast\n") and text.endswith("\n\nThe rest.\n") and "old" not in text
    assert "| a figure | 1.0 µs |  |  | ≤ 2 µs: reached |" in text
    assert "| another | 3.0 µs |  |  | ≤ 2 µs: **not reached** |" in text
    assert "Celery " in text and "Valkey " in text
    assert "batch.map" in picture.read_text() and "40×" in picture.read_text()


def test_a_page_without_markers_is_not_touched(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Fast\n")
    with pytest.raises(ValueError, match="markers"):
        page_table.write([], page=page, picture=tmp_path / "bench.svg")
    assert page.read_text() == "# Fast\n" and not (tmp_path / "bench.svg").exists()

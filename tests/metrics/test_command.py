"""`celery -A proj batch metrics`, printed and written for node_exporter."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from prometheus_client.parser import text_string_to_metric_families as read_plain
from redis import Redis

from tests.support.apps import open_app
from tests.support.terminal import Commands, make_batch


@pytest.fixture
def app(redis: Redis, server_url: str) -> Iterator[Celery]:
    with open_app(server_url) as app:
        yield app


@pytest.fixture
def command(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(app=app, monkeypatch=monkeypatch)


def created(text: str) -> float:
    return next(f.samples[0].value for f in read_plain(text) if f.name == "celery_batches_created")


def test_metrics_are_printed_as_prometheus_reads_them(app: Celery, command: Commands) -> None:
    make_batch(app, 3, "secret plan", tags=["customer:42"])
    app._batches_extension.engine.sweeper.sweep()
    ran = command("metrics")
    assert (ran.code, ran.stderr) == (0, "")
    assert created(ran.stdout) == 1
    assert "celery_batches_members_pending 3\n" in ran.stdout
    assert "secret" not in ran.stdout and "customer" not in ran.stdout


def test_with_json_each_sample_is_an_object(app: Celery, command: Commands) -> None:
    *samples, last = command("metrics", "--json").records
    found = {(s["name"], *s["labels"].values()): (s["kind"], s["value"]) for s in samples}
    assert found["celery_batches_ended_total", "dead"] == ("counter", 0)
    assert found["celery_batches_live", "open"] == ("gauge", 0)
    assert last == {"samples": len(samples), "exit_code": 0, "final": True}


def test_a_file_is_replaced_in_one_step_and_everybody_may_read_it(
    app: Celery, command: Commands, tmp_path: Path
) -> None:
    file = tmp_path / "batches.prom"
    file.write_text("old")
    old = file.stat().st_ino
    make_batch(app, 1)
    app._batches_extension.engine.sweeper.sweep()
    ran = command("metrics", "--output", str(file))
    assert (ran.code, ran.stdout) == (0, f"{len(file_samples(file))} samples are in {file}\n")
    assert created(file.read_text()) == 1
    assert file.stat().st_ino != old, "a reader of the old one reads it to its end"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [file], "nothing is left beside it"
    (record,) = command("metrics", "--output", str(file), "--json").records
    assert record["output"] == str(file) and record["final"]


def file_samples(file: Path) -> list[object]:
    return [sample for family in read_plain(file.read_text()) for sample in family.samples]


def test_a_file_that_cannot_be_written_is_one_line(command: Commands, tmp_path: Path) -> None:
    ran = command("metrics", "--output", str(tmp_path / "missing" / "x.prom"))
    assert ran.code == 2
    assert (
        ran.stderr
        == f"Error: --output {tmp_path}/missing/x.prom cannot be written: No such file or directory\n"
    )


def test_a_store_that_is_away_leaves_the_file_as_it_is(
    app: Celery, command: Commands, tmp_path: Path
) -> None:
    file = tmp_path / "batches.prom"
    file.write_text("old")
    app.conf.batches_backend_url = "redis://127.0.0.1:1/0"
    ran = command("metrics", "--output", str(file))
    assert (ran.code, file.read_text()) == (69, "old")
    assert list(tmp_path.iterdir()) == [file]

"""The alerts and the dashboard of the documentation ask for metrics that exist, and do what they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from celery import Celery

from celery_batches_notify.metrics.collector import Collector
from celery_batches_notify.metrics.families import render_families
from tests.docs.pages import DOCS, first_codes

SHIPPED = DOCS / "how-to" / "metrics"
PROMTOOL = shutil.which("promtool")


@pytest.fixture
def exported(app: Celery) -> str:
    """What is scraped from an empty store, which has every series but those of unknown channels."""
    return render_families(Collector().collect(app._batches_extension.engine))


def families(text: str) -> set[str]:
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


def asked_for(text: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"celery_batches_\w+", text)}


@pytest.mark.parametrize("file", ["alerts.yml", "dashboard.json"])
def test_what_is_asked_for_is_exported(exported: str, file: str) -> None:
    asked = asked_for((SHIPPED / file).read_text("utf-8"))
    assert asked and asked <= families(exported)


def test_each_panel_of_the_dashboard_has_a_place_and_a_query() -> None:
    dashboard = json.loads((SHIPPED / "dashboard.json").read_text("utf-8"))
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    taken = {
        (x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])
    }
    assert len(taken) == sum(p["w"] * p["h"] for p in places), "two panels overlap"
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


def test_the_page_names_every_metric_and_no_other(exported: str) -> None:
    assert set(first_codes("how-to/metrics-and-traces.md", "metric")) == families(exported)


def test_the_page_names_every_alert() -> None:
    rules = (SHIPPED / "alerts.yml").read_text("utf-8")
    named = first_codes("how-to/metrics-and-traces.md", "alert")
    assert re.findall(r"alert: (\w+)", rules) == named and len(named) == 4


@pytest.mark.skipif(PROMTOOL is None, reason="Prometheus' own tool is not here")
def test_prometheus_accepts_the_metrics_and_the_alerts_fire_when_they_should(
    exported: str, tmp_path: Path
) -> None:
    shutil.copy(SHIPPED / "alerts.yml", tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yml"), tmp_path)
    for words, given in (
        (["check", "metrics"], exported),
        (["check", "rules", "alerts.yml"], None),
        (["test", "rules", "alerts_test.yml"], None),
    ):
        done = subprocess.run(
            [str(PROMTOOL), *words], input=given, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

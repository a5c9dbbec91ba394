"""Draw docs/images/dashboard.svg: the Grafana dashboard's panels, with Prometheus' answers to their queries.

Run it again after a change to the dashboard: `python docs/dashboard_picture.py [SVG]`. It runs a worker, the
page and a `prometheus`, which must be on the PATH, for some minutes, and needs the extra `web`. Grafana draws
the same figures in its own way.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from celery import Celery
from panels import Curves, draw_dashboard

from celery_batches_notify import Batch, Batches
from celery_batches_notify.demo.page import serve_page
from celery_batches_notify.testing.child_process import directory_until_we_end, run_until_we_end
from celery_batches_notify.testing.server import embedded_server, find_free_port

DOCS = Path(__file__).parent
DASHBOARD = DOCS / "how-to" / "metrics" / "dashboard.json"
RUN_SECONDS, SCRAPE_SECONDS, RATE = int(os.environ.get("PICTURE_SECONDS", "420")), 5, "40s"
URL = os.environ.get("PICTURE_URL", "")


def make_app(url: str) -> Celery:
    """Return the app of the picture: its producer, its worker and its page have the same."""
    app = Celery("billing", broker=url)
    app.conf.update(
        batches_backend_url=url, batches_sweep_interval=3, broker_connection_retry_on_startup=True
    )
    Batches(app)

    @app.task(name="import_row", bind=True, max_retries=2)
    def import_row(self: Any, seconds: float, fails: int) -> None:
        time.sleep(seconds)
        if fails > self.request.retries:
            raise self.retry(exc=ValueError("no such customer"), countdown=3)

    @app.task(name="publish_report")
    def publish_report(_: dict[str, Any]) -> None:
        time.sleep(0.1)

    return app


def make_batches(app: Celery) -> None:
    """Start batches of several sizes, some with failures, until the time is over."""
    rng, ends_at = random.Random(4), time.monotonic() + RUN_SECONDS  # noqa: S311 - a picture
    while time.monotonic() < ends_at:
        batch = Batch("Import rows", app=app).on("finish", app.tasks["publish_report"].s())
        if rng.random() < 0.3:
            batch.on("success", "webhook", url="http://127.0.0.1:1/", give_up_after=20)
        with batch:
            bad = rng.random() < 0.25
            for _ in range(rng.choice([20, 60, 150, 400])):
                fails = rng.choice([0] * 30 + [1, 3]) if bad else 0
                app.tasks["import_row"].delay(rng.uniform(0.02, 0.25), fails)
        pause = 7 + 6 * math.sin(time.monotonic() / 40)
        time.sleep(max(pause, 1))


@contextmanager
def prometheus(target: str) -> Iterator[str]:
    """Run a Prometheus that scrapes the page; give its URL."""
    with directory_until_we_end("batches-prometheus-") as directory:
        config = directory / "prometheus.yml"
        config.write_text(
            f"global: {{scrape_interval: {SCRAPE_SECONDS}s}}\n"
            f"scrape_configs: [{{job_name: batches, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        address = f"127.0.0.1:{find_free_port()}"
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory}/data"]
        with run_until_we_end([*command, f"--web.listen-address={address}"]):
            yield f"http://{address}"


def ask(url: str, target: dict[str, Any], span: tuple[float, float]) -> Curves:
    """Return the curves that Prometheus answers to a query of a panel, with their names."""
    query = target["expr"].replace("$__rate_interval", RATE).replace("$job", ".*")
    params: dict[str, Any] = {"query": query, "start": span[0], "end": span[1], "step": SCRAPE_SECONDS}
    answer = requests.get(f"{url}/api/v1/query_range", params=params, timeout=30)
    answer.raise_for_status()
    curves = []
    for series in answer.json()["data"]["result"]:
        name = target["legendFormat"]
        for label, value in series["metric"].items():
            name = name.replace(f"{{{{{label}}}}}", value)
        curves.append((name, [(float(at), float(value)) for at, value in series["values"] if value != "NaN"]))
    return curves


def draw(url: str, span: tuple[float, float]) -> str:
    """Draw the dashboard, as it is in its file."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    panels = [
        (panel, [curve for target in panel["targets"] for curve in ask(url, target, span)])
        for panel in dashboard["panels"]
    ]
    return draw_dashboard("The dashboard: batches, members, durations and callbacks", panels, span)


def main() -> None:
    """Run everything, and draw."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else DOCS / "images" / "dashboard.svg")
    with embedded_server() as store:
        app = make_app(store)
        environment = {**os.environ, "PICTURE_URL": store}
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "dashboard_picture",
            "worker",
            "-P",
            "threads",
            "-c",
            "8",
        ]
        with (
            run_until_we_end(command, env=environment, cwd=DOCS, stderr=subprocess.DEVNULL),
            serve_page(app) as page,
            prometheus(page.removeprefix("http://").rstrip("/")) as url,
        ):
            start = time.time()
            make_batches(app)
            target.write_text(draw(url, (start, time.time())), "utf-8")
    print(target)  # noqa: T201


if URL:
    app = make_app(URL)
if __name__ == "__main__":
    main()

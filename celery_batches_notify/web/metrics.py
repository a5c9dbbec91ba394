"""The metrics of all batches, for Prometheus."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from celery_batches_notify.engine import Engine
from celery_batches_notify.metrics.collector import Collector
from celery_batches_notify.metrics.families import OPEN_METRICS, PLAIN, accepts_open_metrics, render_families


class Metrics:
    """Answers scrapes of one app."""

    def __init__(self) -> None:
        self._collector = Collector()

    def answer(self, engine: Engine, request: Request) -> Response:
        """Answer in the format that the client prefers."""
        families = self._collector.collect(engine)
        is_open = accepts_open_metrics(request.headers.get("accept", ""))
        text = render_families(families, open_metrics=is_open)
        return Response(text, headers={"Content-Type": OPEN_METRICS if is_open else PLAIN})

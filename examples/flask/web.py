"""A form that starts an import, and a page that shows its progress, with an application factory."""

import os
import time

from celery import Celery, Task, shared_task
from flask import Flask, abort, redirect, render_template_string, request, url_for
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Response

from celery_batches_notify import Batch, Batches, BatchesError
from celery_batches_notify.web import wsgi_status_page

FORM = (
    "<form method=post action=/imports><input name=rows type=number value=100> <button>Import</button></form>"
    "<p><a href=/batches/>All batches</a>"
)
PAGE = """<!doctype html><meta charset=utf-8><title>{{ status.description }}</title>
{% if not status.finish_at %}<meta http-equiv=refresh content=1>{% endif %}
<h1>{{ status.description }}</h1>
<progress value="{{ status.progress }}"></progress>
<output>{{ status.state }}: {{ status.succeeded }} of {{ status.total }}, {{ status.dead }} failed</output>
<p><a href="/batches/{{ status.bid }}">The batch</a>"""


@shared_task
def import_row(number: int) -> None:
    """Pretend to import a row; every 40th is broken."""
    time.sleep(0.02)
    if number % 40 == 39:
        raise ValueError(f"row {number} is broken")


def create_celery(web: Flask) -> Celery:
    """Make the Celery app whose tasks run in the application's context."""

    class ContextTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with web.app_context():
                return self.run(*args, **kwargs)

    url = os.environ.get("BATCHES_EXAMPLE_URL", "redis://localhost:6379/0")
    app = Celery("imports", broker=url, task_cls=ContextTask)
    app.conf.update(batches_backend_url=url, broker_connection_retry_on_startup=True)
    app.set_default()
    Batches(app)
    web.extensions["celery"] = app
    return app


def create_app() -> Flask:
    """Make the application."""
    web = Flask("imports")
    page = wsgi_status_page(create_celery(web))
    web.wsgi_app = DispatcherMiddleware(web.wsgi_app, {"/batches": page})  # type: ignore[method-assign]

    @web.get("/")
    def form() -> str:
        return FORM

    @web.post("/imports")
    def start() -> Response:
        rows = request.form.get("rows", 0, type=int)
        if not 0 < rows <= 10_000:
            abort(400, "rows must be a number from 1 to 10,000")
        with Batch(f"Import {rows} rows") as batch:
            for number in range(rows):
                import_row.delay(number)
        return redirect(url_for("show", bid=batch.bid), 303)

    @web.get("/imports/<bid>")
    def show(bid: str) -> str:
        try:
            return render_template_string(PAGE, status=Batch.get(bid).status())
        except BatchesError as exc:
            abort(404, str(exc))

    return web


app = create_app()
celery_app = app.extensions["celery"]

"""The Celery app and its task."""

import os
import time

from celery import Celery

from celery_batches_notify import Batches

url = os.environ.get("BATCHES_EXAMPLE_URL", "redis://localhost:6379/0")
app = Celery("imports", broker=url)
app.conf.update(batches_backend_url=url, broker_connection_retry_on_startup=True)
app.set_default()
Batches(app)


@app.task
def import_row(number: int) -> None:
    """Pretend to import a row; every 40th is broken."""
    time.sleep(0.02)
    if number % 40 == 39:
        raise ValueError(f"row {number} is broken")

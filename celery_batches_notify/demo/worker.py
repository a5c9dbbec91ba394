"""The app for `celery -A celery_batches_notify.demo.worker worker`."""

from celery_batches_notify.demo.app import Run, create_app

app = create_app(Run.from_environ())

"""What the demo's worker is started with: `celery -A celery_batches_notify.demo.worker worker`."""

import os

from celery_batches_notify.demo.app import create_app
from celery_batches_notify.demo.surroundings import Surroundings

app = create_app(Surroundings.from_environ(os.environ))

"""`python -m celery_batches_notify.demo`."""

import sys

from celery_batches_notify.demo import main

sys.exit(main())

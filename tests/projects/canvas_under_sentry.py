"""Run as a script: call every shape with Sentry's SDK tracing this process, and print which batch is which.

Sentry patches Celery for good, so it gets a process of its own.
"""

from __future__ import annotations

import json
import sys

import sentry_sdk

from tests.projects import canvas_proj
from tests.support.canvas_runs import Setting, run_all
from tests.support.canvas_shapes import SHAPES

if __name__ == "__main__":
    setting = Setting(app=canvas_proj.app, pool="prefork", counts_chords=True)
    with sentry_sdk.start_transaction(name="shapes"):
        runs = run_all(setting, SHAPES)
    sys.stdout.write(json.dumps([[*key, batch.bid] for key, batch in runs.items()]))

"""The code that runs in a worker: it reports how tasks end, and notes which tasks run in case it is lost.

`receivers` hear Celery's signals, `outcomes` turns them into outcomes, `reporter` sends these to the store,
and `spool` keeps them while the store is away. `heartbeat` renews the worker's lease, and writes the
records of `in_flight`. `cancellation` discards the members of cancelled batches.
"""

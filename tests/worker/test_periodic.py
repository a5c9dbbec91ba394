from __future__ import annotations

import threading

from celery_batches_notify.worker.periodic import PeriodicThread
from tests.support.servers import wait_until


def test_one_that_is_slow_to_end_does_not_go_on_when_another_begins() -> None:
    runs, go_on = [], threading.Event()

    def do() -> None:
        runs.append(threading.current_thread())
        if len(runs) == 1:
            go_on.wait(30)

    every = PeriodicThread("test", 0.02, do)
    every.start()
    wait_until(lambda: runs, what="the first run")
    every.stop()
    assert runs[0].is_alive()
    every.start()
    go_on.set()
    wait_until(lambda: not runs[0].is_alive(), what="the first thread's end")
    wait_until(lambda: len(runs) > 3, what="the other's runs")
    every.stop()
    assert len({*runs}) == 2

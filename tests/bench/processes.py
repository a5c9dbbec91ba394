"""The CPU time of a worker, that is, of its main process and all its children, and of a server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

QUIET_SECONDS = 0.3
LOOKS_AT_MOST = 400
TICK_SECONDS = 0.01


def cpu_when_quiet(pid: int) -> float:
    """Wait until a worker rests; return the CPU time of its main process and its children.

    Raises:
        RuntimeError: It does not rest for two minutes.
    """
    last = cpu_seconds(pid)
    for _ in range(LOOKS_AT_MOST):
        time.sleep(QUIET_SECONDS)
        now = cpu_seconds(pid)
        if now - last < 2 * TICK_SECONDS:
            return now
        last = now
    raise RuntimeError(f"the worker with process {pid} does not come to rest")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children so far."""
    return sum(map(_own_cpu_seconds, family(pid)))


def send_all(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and its children."""
    for each in list(family(pid)):
        os.kill(each, number)


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def server_seconds(redis: Any) -> float:
    """Return the CPU time of a Redis or Valkey so far."""
    spent = redis.info("cpu")
    return float(spent["used_cpu_user"] + spent["used_cpu_sys"])


def _own_cpu_seconds(pid: int) -> float:
    """Return a process's CPU time, to the nanosecond: Linux's ticks are too coarse for a short run."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

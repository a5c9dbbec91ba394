"""The processes on this machine, to check that none is left behind."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def running() -> dict[int, int]:
    """The parent of every process that has not ended."""
    if not Path("/proc/self/stat").exists():
        return _running_by_ps()
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
        except OSError:  # it ended meanwhile
            continue
        if state not in "ZX":
            found[int(stat.parent.name)] = int(parent)
    return found


@contextmanager
def starting_with_sigint(handler: signal.Handlers) -> Iterator[None]:
    """Let processes that start in this block obey Ctrl-C (`SIG_DFL`), as in a terminal, or ignore it.

    A process inherits from its parent whether it ignores a signal, and tests that were started with `&` or
    `nohup` may ignore this one.
    """
    ours = signal.default_int_handler if handler == signal.SIG_DFL else handler
    before = signal.signal(signal.SIGINT, ours)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _running_by_ps() -> dict[int, int]:
    out = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in out.splitlines()]
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def find_descendants(pid: int) -> set[int]:
    """The children of a process, their children, and so on."""
    parents = running()
    found = {pid}
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return found - {pid}

"""Forks wait while another thread makes a TLS connection."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_SECONDS = 5


class ForkSafety:
    """Makes the forks of this process wait while one of its threads makes a TLS connection.

    OpenSSL's own locks do not survive a fork: a lock that another thread holds stays locked in the child, and
    the child hangs as soon as it makes a connection itself. Celery's prefork pool may fork at any time, to
    replace a child that ended.
    """

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(before=self._wait, after_in_parent=self._go_on, after_in_child=self._begin)

    def _begin(self) -> None:
        self._gate = threading.RLock()
        self._left = threading.Condition()
        self._inside = 0

    def _wait(self) -> None:
        self._gate.acquire()  # no other thread enters
        with self._left:
            self._left.wait_for(lambda: not self._inside, WAIT_SECONDS)

    def _go_on(self) -> None:
        self._gate.release()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Make forks wait until the block ends, but at most `WAIT_SECONDS`."""
        with self._gate, self._left:
            self._inside += 1
        try:
            yield
        finally:
            with self._left:
                self._inside -= 1
                self._left.notify_all()


forks = ForkSafety()

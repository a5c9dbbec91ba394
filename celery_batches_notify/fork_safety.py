"""Makes forks wait until no thread is in the middle of a TLS handshake."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_SECONDS = 5


class ForkSafety:
    """Makes the forks of this process wait while a thread makes a TLS connection.

    OpenSSL's locks do not survive forks: a lock that another thread holds stays locked in the child, which
    hangs when it makes a connection itself. Celery's prefork pool forks at any time, to replace a child.
    """

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(before=self._wait, after_in_parent=self._go_on, after_in_child=self._begin)

    def _begin(self) -> None:
        self._gate = threading.RLock()
        self._left = threading.Condition()
        self._inside = 0

    def _wait(self) -> None:
        self._gate.acquire()  # other threads stay outside
        with self._left:
            self._left.wait_for(lambda: not self._inside, WAIT_SECONDS)

    def _go_on(self) -> None:
        self._gate.release()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Make forks wait until this block ends, but at most `WAIT_SECONDS`."""
        with self._gate, self._left:
            self._inside += 1
        try:
            yield
        finally:
            with self._left:
                self._inside -= 1
                self._left.notify_all()


forks = ForkSafety()

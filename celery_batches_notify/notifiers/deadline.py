"""A wall-clock limit for work that has none of its own, and the sockets that are cut when it has passed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from threading import Lock, Thread
from typing import TypeVar

T = TypeVar("T")


class DeadlinePassed(Exception):
    """The work had not ended when its time was up; it was told to stop."""


def run_within(seconds: float, work: Callable[[], T], abort: Callable[[], None]) -> T:
    """Run `work` in a thread of its own and wait for it no longer than this.

    A timeout on sockets is not enough: it starts anew with every byte, with every address of a host, and does
    not hold while a name is resolved.

    Args:
        seconds: How long to wait, in all.
        work: What to run. It gets no context variables and must not leave anything half done.
        abort: Called once if the work is left behind, also when the caller is interrupted (by Celery's soft
            time limit, say). It should make the work end soon and must not block.

    Returns:
        What `work` returned.

    Raises:
        DeadlinePassed: The time was up.
        BaseException: Whatever `work` raised.
    """
    future: Future[T] = Future()
    thread = Thread(target=_fulfil, args=(future, work), name="batches-notify", daemon=True)
    try:
        thread.start()
        wait([future], timeout=seconds)
    finally:
        in_time = future.done()
        if not in_time:
            abort()
    if not in_time:
        raise DeadlinePassed
    return future.result()


def _fulfil(future: Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as exc:  # noqa: BLE001 -- it is not swallowed: the waiting thread raises it
        future.set_exception(exc)
    else:
        future.set_result(result)


class Sockets:
    """The open sockets of one exchange: copies, as TLS takes the originals over and hides them."""

    def __init__(self) -> None:
        self._copies: list[socket.socket] = []
        self._lock = Lock()
        self._is_cut = False

    def keep(self, sock: socket.socket) -> None:
        """Take note of a new socket; close it and raise `OSError` if the exchange is already cut."""
        with self._lock:
            if self._is_cut:  # the deadline passed while it connected: nothing may go out any more
                sock.close()
                raise ConnectionAbortedError("too late")
            self._copies.append(sock.dup())

    def check(self) -> None:
        """Raise `OSError` if the exchange is cut: what was read since may look whole and not be."""
        if self._is_cut:
            raise ConnectionAbortedError("too late")

    def cut(self) -> None:
        """Make every read and write on them fail at once, also those of another thread."""
        with self._lock:
            self._is_cut = True
            for copy in self._copies:
                with suppress(OSError):
                    copy.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the copies back to the system."""
        with self._lock:
            for copy in self._copies:
                copy.close()
            self._copies.clear()

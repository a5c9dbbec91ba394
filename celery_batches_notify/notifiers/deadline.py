"""Limit work by wall-clock time, and cut its sockets when the time is up."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from threading import Lock, Thread
from typing import TypeVar

T = TypeVar("T")


class DeadlinePassed(Exception):
    """The work did not end in time, and was aborted."""


def run_within(seconds: float, work: Callable[[], T], abort: Callable[[], None]) -> T:
    """Run `work` in a thread of its own and wait for it no longer than this.

    A timeout on sockets is not enough: it starts again with every byte and with every address of a host, and
    does not limit name resolution.

    Args:
        seconds: The limit, in seconds.
        work: The function to run. It gets no context variables and must not leave anything half done.
        abort: Called once if the work has not ended, also if the caller is interrupted (by Celery's soft
            time limit, say). It should make the work end soon and must not block.

    Returns:
        The result of `work`.

    Raises:
        DeadlinePassed: The time was up.
        BaseException: The exception of `work`.
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
    except BaseException as exc:  # noqa: BLE001 -- the waiting thread raises it
        future.set_exception(exc)
    else:
        future.set_result(result)


class Sockets:
    """The open sockets of one exchange, as copies, because TLS takes over the originals and hides them."""

    def __init__(self) -> None:
        self._copies: list[socket.socket] = []
        self._lock = Lock()
        self._is_cut = False

    def keep(self, sock: socket.socket) -> None:
        """Register a new socket; close it and raise `OSError` if the exchange has been cut."""
        with self._lock:
            if self._is_cut:  # the deadline passed while it connected
                sock.close()
                raise ConnectionAbortedError("too late")
            self._copies.append(sock.dup())

    def check(self) -> None:
        """Raise `OSError` if the exchange has been cut, because later data may be incomplete."""
        if self._is_cut:
            raise ConnectionAbortedError("too late")

    def cut(self) -> None:
        """Make every read and write on the sockets fail at once, in every thread."""
        with self._lock:
            self._is_cut = True
            for copy in self._copies:
                with suppress(OSError):
                    copy.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the copies."""
        with self._lock:
            for copy in self._copies:
                copy.close()
            self._copies.clear()

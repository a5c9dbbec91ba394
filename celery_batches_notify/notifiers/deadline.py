"""A wall-clock limit for work that has none of its own, such as resolving a name."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
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

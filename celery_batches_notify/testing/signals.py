"""Let Ctrl-C and similar signals end the process once, in order, without disturbing its cleanup."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked the process to end. Not an `Exception`, so that no handler takes it for a failure.

    Attributes:
        signum: The signal, such as SIGINT for Ctrl-C.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Raise `Interrupted` in this block at the first signal, and ignore later ones until its end.

    It yields a function that makes the process ignore signals from then on. Signals that the process ignored
    before (`nohup`) stay ignored.

    Raises:
        Interrupted: A signal came.
    """
    before = {s: handler for s in SIGNALS if (handler := signal.getsignal(s)) is not signal.SIG_IGN}

    def ignore_signals() -> None:
        for signum in before:
            signal.signal(signum, signal.SIG_IGN)

    def on_signal(signum: int, _frame: FrameType | None) -> None:
        ignore_signals()
        raise Interrupted(signum)

    for signum in before:
        signal.signal(signum, on_signal)
    try:
        yield ignore_signals
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)

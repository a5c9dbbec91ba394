"""Ctrl-C and its kin: they end the demo once, in an orderly way, and do not disturb the tidying up."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody asked the demo to end. No `Exception`, so that nothing on the way takes it for a failure.

    Attributes:
        signum: How: SIGINT for Ctrl-C.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Raise `Interrupted` in this block at the first signal; afterwards, ignore signals until its end.

    It yields a function that begins to ignore them earlier. What the process was told to ignore
    (`nohup`) it goes on ignoring.

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

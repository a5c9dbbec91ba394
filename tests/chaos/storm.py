"""Faults, drawn by a seed, one every so many seconds, and written down as they happen."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

Fault = Callable[[], object]


class Storm:
    """A thread that does one of these things again and again until its block ends.

    A fault that answers False had nothing to do.
    """

    def __init__(self, faults: Mapping[str, Fault], *, every_seconds: float, draw: random.Random) -> None:
        self.log: list[str] = []
        self._faults = faults
        self._every = every_seconds
        self._draw = draw
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="storm")
        self._error: BaseException | None = None

    def __enter__(self) -> Storm:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._over.wait(self._every):
                name = self._draw.choice(sorted(self._faults))
                at = time.monotonic() - self._began
                if self._faults[name]() is not False:
                    self.log.append(f"{at:6.1f} s {name}")
        except BaseException as error:
            self._error = error

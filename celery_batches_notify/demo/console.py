"""Where the demo speaks to its user: lines, sections, colours, and a clock for its phases."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import TextIO

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}


class Console:
    """Writes to a terminal in colours, and to anything else without."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str] = os.environ) -> None:
        self.stream = stream
        self.is_live = stream.isatty() and environ.get("TERM") != "dumb"
        self._has_colours = self.is_live and not environ.get("NO_COLOR")
        self._started = time.monotonic()
        self.laps: dict[str, float] = {}

    def paint(self, text: str, colour: str) -> str:
        """Return the text in a colour: `bold`, `dim`, `red` or `green`."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self._has_colours and text else text

    def write(self, text: str) -> None:
        """Write a text at once."""
        self.stream.write(text)
        self.stream.flush()

    def say(self, line: str = "") -> None:
        """Write a line."""
        self.write(line + "\n")

    def section(self, title: str, lines: Iterable[str]) -> None:
        """Write a title, and lines below it."""
        self.say()
        self.say(self.paint(title, "bold"))
        for line in lines:
            self.say(line)

    def lap(self, name: str) -> None:
        """Note that a phase is over."""
        self.laps[name] = self.elapsed - sum(self.laps.values())

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

"""A terminal: its width, its abilities, and lines that are redrawn in place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TextIO

from celery_batches_notify.cli.output import is_utf8, write

_CODES = {"dim": "2", "red": "31", "green": "32", "yellow": "33"}


class Terminal:
    """Redraws lines in place and lets others scroll by above them. It never uses the alternate screen.

    Args:
        stream: The terminal.
        environ: Describes it: `TERM`, `NO_COLOR`, `LC_ALL`, `LC_CTYPE`, `LANG`.
    """

    def __init__(self, stream: TextIO, environ: Mapping[str, str] = os.environ) -> None:
        self._stream = stream
        self.ascii_only = not is_utf8(stream, environ)
        self._has_colours = not environ.get("NO_COLOR")
        self._drawn: list[str] = []

    @property
    def columns(self) -> int:
        """Its width; `COLUMNS` wins."""
        return shutil.get_terminal_size().columns if "COLUMNS" in os.environ else self._size().columns

    @property
    def rows(self) -> int:
        """Its height."""
        return self._size().lines

    def paint(self, text: str, colour: str) -> str:
        """Return the text in a colour: `dim`, `red`, `green` or `yellow`."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self._has_colours else text

    def draw(self, lines: Sequence[str]) -> None:
        """Draw these lines in place of the last ones, unless they are the same."""
        if list(lines) != self._drawn:
            self._write(self._erase() + "".join(f"{line}\n" for line in lines))
            self._drawn = list(lines)

    def say(self, line: str) -> None:
        """Let a line scroll by above the drawn lines."""
        drawn = "".join(f"{each}\n" for each in self._drawn)
        self._write(f"{self._erase()}{line}\n{drawn}")

    def leave(self) -> None:
        """Leave the drawn lines where they are."""
        self._drawn = []

    def _erase(self) -> str:
        return f"\x1b[{len(self._drawn)}A\r\x1b[J" if self._drawn else ""

    def _write(self, text: str) -> None:
        write(self._stream, text, ascii_only=self.ascii_only)

    def _size(self) -> os.terminal_size:
        columns = rows = 0
        with suppress(OSError, ValueError):
            columns, rows = os.get_terminal_size(self._stream.fileno())
        return os.terminal_size((columns or 80, rows or 24))  # in a container nobody may have set them


def can_draw(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a terminal that draws lines in place."""
    return stream.isatty() and environ.get("TERM", "dumb") != "dumb"

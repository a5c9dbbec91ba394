"""Printing: lines for people, or JSON lines for programs, and never an escape sequence."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, TextIO

from celery_batches_notify.errors import BatchesError
from celery_batches_notify.text import one_line

CHARACTERS = 1_000
_IN_ASCII = str.maketrans(
    {"…": "...", "\u2013": "-", "·": "-", "×": "x", "✓": "+", "✗": "x", "⚠": "!", "▸": ">"}
)
_COERCED = "C.UTF-8"  # Python sets LC_CTYPE to it under LANG=C


class Output:
    """Prints a command's answer.

    Args:
        stream: The stream to print to.
        as_json: Print one JSON object per line; the last one has `"final": true` and the exit code.
    """

    def __init__(self, stream: TextIO, *, as_json: bool = False) -> None:
        self._stream = stream
        self.as_json = as_json
        self._has_ended = False

    @property
    def ascii_only(self) -> bool:
        """Whether the stream is a terminal that takes only ASCII."""
        return self._stream.isatty() and not is_utf8(self._stream)

    def say(self, text: str, /, **fields: Any) -> None:
        """Print a line for people; for programs, print its fields, or the text if there are no fields."""
        self._write(as_json_line(fields or {"text": text}) if self.as_json else one_safe_line(text))

    def end(self, text: str, code: int, /, **fields: Any) -> int:
        """Print the last line; return the exit code."""
        if self.as_json:
            self.finish(code, **fields)
        else:
            self._write(one_safe_line(text))
        return code

    def finish(self, code: int, **fields: Any) -> None:
        """Print the last JSON line, unless that was done."""
        if self.as_json and not self._has_ended:
            self._has_ended = True
            self._write(as_json_line({**fields, "exit_code": int(code), "final": True}))

    def _write(self, line: str) -> None:
        write(self._stream, line + "\n")


def write(stream: TextIO, text: str, *, ascii_only: bool | None = None) -> None:
    """Write a text at once, whatever characters the stream can take; by default a terminal's locale says."""
    if ascii_only if ascii_only is not None else stream.isatty() and not is_utf8(stream):
        text = text.translate(_IN_ASCII).encode("ascii", "replace").decode()
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


def is_utf8(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a terminal takes UTF-8. Its locale says so: Python writes UTF-8 under `LANG=C` too."""
    if (stream.encoding or "").lower().replace("-", "") != "utf8":
        return False
    ctype = environ.get("LC_CTYPE", "")
    names = (environ.get("LC_ALL"), ctype if ctype != _COERCED else "", environ.get("LANG"))
    return "utf" in next((name for name in names if name), "").lower()


def as_json_line(fields: dict[str, Any]) -> str:
    """Return fields as JSON in ASCII, so that it is safe to show in a terminal."""
    return json.dumps(fields, default=str)


def one_safe_line(answer: str) -> str:
    """Return a text as one line that a terminal only shows."""
    return one_line(answer, CHARACTERS)  # safety: terminal-line


def error_line(exc: BaseException) -> str:
    """Return an error as one line; an error that is not ours is shown with its class."""
    words = str(exc) if isinstance(exc, BatchesError) and str(exc) else f"{type(exc).__name__}: {exc}"
    return one_line(words, CHARACTERS)

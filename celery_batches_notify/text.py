"""Text that comes from anywhere, made safe to store and to show on one line. Pure."""

from __future__ import annotations

import re

_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_TURNS = re.compile(r"[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb]")
_HALVES = re.compile(r"[\ud800-\udfff]")


def replace_halves(text: str) -> str:
    """Return text that UTF-8 has bytes for: each half of a surrogate pair becomes U+FFFD."""
    return _HALVES.sub("\ufffd", text)


def one_line(text: object, limit: int) -> str:
    """Return a text as one line of at most `limit` characters, without what is not seen or turns it round."""
    line = straighten(replace_halves(str(text)[: 8 * limit]))
    line = _BREAKS.sub(" ", line).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def straighten(text: str) -> str:
    """Return text without what is not seen or turns its direction round."""
    return _TURNS.sub("", text)

"""Makes text from any source safe to store and to show on one line. Pure."""

from __future__ import annotations

import re

_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_TURNS = re.compile(r"[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb]")
_HALVES = re.compile(r"[\ud800-\udfff]")


def replace_halves(text: str) -> str:
    """Return text that UTF-8 can encode: each lone half of a surrogate pair becomes U+FFFD."""
    return _HALVES.sub("\ufffd", text)


def one_line(text: object, limit: int) -> str:
    """Return a text as one line of at most `limit` characters, without invisible and bidi characters."""
    line = straighten(replace_halves(str(text)[: 8 * limit]))
    line = _BREAKS.sub(" ", line).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 member` and `2,000 members`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def straighten(text: str) -> str:
    """Return text without invisible characters and those that change its direction."""
    return _TURNS.sub("", text)

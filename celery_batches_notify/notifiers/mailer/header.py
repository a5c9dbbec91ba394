"""Encode header lines of a mail, because a hostile text can make the standard library inject others.

`EmailMessage` decodes an encoded word in a text (`=?UTF-8?Q?=0A?=`) and, before the patch releases of 2024,
writes the line break in it into the header. So this module encodes each value before that parser sees it.
"""

from __future__ import annotations

import re
import unicodedata
from email.header import Header as EncodedWords
from email.policy import Policy

_NAME = re.compile(r"[A-Za-z0-9-]{1,76}")
_LINE_BREAKERS = frozenset({"Cc", "Cs", "Zl", "Zp"})
_LONGEST_WORD = 900  # a line may hold 998 octets and folds at spaces only


class HeaderLine(str):
    """A header's value: plain text to readers, and encoded as `wire` in the mail.

    `EmailPolicy` recognises a header by these two attributes and leaves it alone.
    """

    name: str
    wire: str

    def fold(self, *, policy: Policy) -> str:
        """Return the whole header with its line end."""
        return f"{self.name}: {self.wire}\n".replace("\n", policy.linesep)


def header_line(name: str, value: object, wire: str | None = None) -> HeaderLine:
    """Make one header of a text.

    Args:
        name: The header's name.
        value: Its text; anything beyond plain ASCII becomes encoded words.
        wire: The encoded value, if it does not follow from the text (addresses).

    Raises:
        TypeError: The value is not a string.
        ValueError: The name cannot be a header's, or the text would not stay on its line.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name: use letters, digits and -")
    if not isinstance(value, str):
        raise TypeError(f"header {name} must be a string, got {value!r}")
    line = HeaderLine(value)
    line.name = name
    line.wire = encode_words(name, value) if wire is None else wire
    return line


def encode_words(name: str, text: str, *, always: bool = False) -> str:
    """Return `text` encoded for a header, folded with line feeds.

    Args:
        name: The header's name.
        text: Its text, or a part of it.
        always: Encode plain ASCII too, because unencoded it would mean something else.

    Raises:
        ValueError: It holds a line break or another control character.
    """
    if not is_one_line(text):
        raise ValueError(f"{name} holds a line break or another control character: write it on one line")
    short = len(max(text.split(), key=len, default="")) < _LONGEST_WORD
    plain = not always and short and text.isascii() and "=?" not in text
    return EncodedWords(text, "us-ascii" if plain else "utf-8", header_name=name).encode()


def is_one_line(text: str) -> bool:
    """Return whether `text` is free of line breaks, control characters and lone surrogates."""
    return not any(unicodedata.category(char) in _LINE_BREAKERS for char in text)

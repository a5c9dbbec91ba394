"""Header lines of a mail: encoded here, because the standard library can be made to inject others.

`EmailMessage` decodes an encoded word that stands in a text (`=?UTF-8?Q?=0A?=`) and, before the
patch releases of 2024, writes the line break it holds into the header. So no text reaches its parser:
each value is encoded first and kept as it is.
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
    """A header's value that reads as plain text and is written as encoded here.

    The two attributes are those by which an `EmailPolicy` takes it for a header and leaves it alone.
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
        wire: The value as it is written, where the text alone does not say it (addresses).

    Raises:
        TypeError: The value is no text.
        ValueError: The name is no header name, or the text would not stay on its line.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name: use letters, digits and -")
    if not isinstance(value, str):
        raise TypeError(f"header {name}: {value!r} is not a text; write it as a str")
    line = HeaderLine(value)
    line.name = name
    line.wire = encode_words(name, value) if wire is None else wire
    return line


def encode_words(name: str, text: str, *, always: bool = False) -> str:
    """Return `text` as a header carries it, folded with line feeds.

    Args:
        name: The header's name.
        text: Its text, or a part of it.
        always: Encode plain ASCII too, because it would mean something else where it stands.

    Raises:
        ValueError: It holds a line break or another control character.
    """
    if not is_one_line(text):
        raise ValueError(f"{name} holds a line break or another control character: write it on one line")
    short = len(max(text.split(), key=len, default="")) < _LONGEST_WORD
    plain = not always and short and text.isascii() and "=?" not in text
    return EncodedWords(text, "us-ascii" if plain else "utf-8", header_name=name).encode()


def is_one_line(text: str) -> bool:
    """Whether `text` holds no line break, control character or lone surrogate."""
    return not any(unicodedata.category(char) in _LINE_BREAKERS for char in text)

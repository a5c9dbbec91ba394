"""Suggestions for error messages: the known word that is closest to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable


def did_you_mean(
    word: object, known: Iterable[str], *, cutoff: float = 0.6, show: Callable[[str], str] = repr
) -> str:
    """Return ` (did you mean 'complete'?)`, or an empty string if no known word is close.

    Args:
        word: The misspelt word, in upper or lower case.
        known: The known words.
        cutoff: How close the known word must be, from 0 to 1.
        show: Formats the suggested word.
    """
    by_lower = {name.lower(): str(name) for name in known}
    close = difflib.get_close_matches(str(word).lower(), by_lower, 1, cutoff)
    return f" (did you mean {show(by_lower[close[0]])}?)" if close else ""

"""Take secrets, and values that were read from the environment, out of texts that people will see."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from celery_batches_notify.notifiers.references import FromEnvironment, texts_in

if TYPE_CHECKING:
    from celery_batches_notify.notifiers.base import Notifier

HIDDEN_AT_LEAST = 4

_SEGMENTS = re.compile(r"[/?#&=;]+")
_PIECES = re.compile(r"[^\w.~%+-]+")
_ITEMS = re.compile(r"[\s,;<>\"']+")


class Redactor:
    """Removes secrets from texts, in whatever case they are written.

    Args:
        secrets: The texts to remove. A mapping gives each a replacement; the default is `…`.
        at_least: The shortest text to remove, in characters, because a single letter is not a secret.
    """

    def __init__(
        self, secrets: Iterable[str] | Mapping[str, str], *, at_least: int = HIDDEN_AT_LEAST
    ) -> None:
        instead = secrets if isinstance(secrets, Mapping) else dict.fromkeys(secrets, "…")
        longest_first = sorted((text for text in instead if len(text) >= at_least), key=len, reverse=True)
        self._rules = [(re.compile(re.escape(text), re.IGNORECASE), instead[text]) for text in longest_first]

    def hide(self, text: str) -> str:
        """Return the text without the secrets."""
        for pattern, instead in self._rules:
            text = pattern.sub(lambda _, instead=instead: instead, text)  # type: ignore[misc]
        return text

    def finds(self, text: str) -> bool:
        """Return whether the text holds a secret."""
        return any(pattern.search(text) for pattern, _ in self._rules)


def pieces_of(address: str, *, with_host: bool = False) -> Iterator[str]:
    """Yield the pieces of an address that may be secrets: of its path and query, and of its host if asked."""
    rest = address.partition("://")[2]
    if not with_host:
        rest = "".join(re.split(r"(?=[/?#])", rest, maxsplit=1)[1:])
    for piece in {*_SEGMENTS.split(rest), *_PIECES.split(rest)}:
        yield piece
        yield unquote(piece)


def hide_secrets(notifier: Notifier, text: str) -> str:
    """Remove a notifier's secrets from a text that others wrote, such as a library's error.

    If a secret is an address, its host stays and every piece of its path and query goes.
    """
    hidden: set[str] = set()
    for path in notifier.secrets:
        option, _, key = path.partition(".")
        value: Any = getattr(notifier, option, None)
        for secret in texts_in(value.get(key) if key and isinstance(value, Mapping) else value):
            hidden |= {secret, *pieces_of(secret)}
    return Redactor(hidden).hide(text)


def hide_environment(notifier: Notifier, text: str) -> str:
    """Write `env:NAME` in place of each value that a notifier's options took from the environment."""
    hidden: dict[str, str] = {}
    for name in getattr(notifier, "__dataclass_fields__", ()):
        for value in texts_in(getattr(notifier, name)):
            if isinstance(value, FromEnvironment):
                pieces = pieces_of(value) if "://" in value else _ITEMS.split(value)
                hidden |= dict.fromkeys((str(value), *pieces), value.reference)  # safety: environment-hidden
    return Redactor(hidden).hide(text)


def repeats_environment(text: str, options: Iterable[object]) -> bool:
    """Return whether a text repeats at least a part of a value that options took from the environment."""
    for value in texts_in(list(options)):
        if isinstance(value, FromEnvironment):
            ends = range(HIDDEN_AT_LEAST, len(value) + 1)
            parts = [value[end - HIDDEN_AT_LEAST : end] for end in ends] or [repr(str(value))]
            if Redactor(parts).finds(text):
                return True
    return False

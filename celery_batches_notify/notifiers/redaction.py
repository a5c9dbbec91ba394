"""Take out of a text what it may not show: secrets, and values that were read from the environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from celery_batches_notify.notifiers.references import FromEnvironment, texts_in

if TYPE_CHECKING:
    from celery_batches_notify.notifiers.base import Notifier

_PIECES_OF_A_PATH = re.compile(r"[^\w.~%+-]+")
_PIECES_OF_A_LIST = re.compile(r"[\s,;<>\"']+")
_HIDDEN_AT_LEAST = 4


def hide(text: str, hidden: Mapping[str, str], *, at_least: int = _HIDDEN_AT_LEAST) -> str:
    """Replace texts in a text by what may be shown instead, in whatever case they are written.

    Args:
        text: The text.
        hidden: What to replace, and by what.
        at_least: How many characters a text must have to be replaced: a letter alone is no secret.
    """
    for piece in sorted(hidden, key=len, reverse=True):
        if len(piece) >= at_least:
            instead = hidden[piece].replace("\\", r"\\")
            text = re.sub(re.escape(piece), instead, text, flags=re.IGNORECASE)
    return text


def hide_secrets(notifier: Notifier, text: str) -> str:
    """Take a notifier's secrets out of a text that is not its own, such as a library's error.

    Of an address that is a secret, every piece of the path and the query is taken out: the host may be shown.
    """
    hidden: dict[str, str] = {}
    for path in notifier.secrets:
        option, _, key = path.partition(".")
        value: Any = getattr(notifier, option, None)
        for secret in texts_in(value.get(key) if key and isinstance(value, Mapping) else value):
            hidden |= dict.fromkeys((secret, *_behind_host(secret)), "…")
    return hide(text, hidden)


def hide_environment(notifier: Notifier, text: str) -> str:
    """Put `env:NAME` where a text repeats what a notifier's options hold from the environment."""
    hidden: dict[str, str] = {}
    for name in getattr(notifier, "__dataclass_fields__", ()):
        for value in texts_in(getattr(notifier, name)):
            if isinstance(value, FromEnvironment):
                pieces = _behind_host(value) if "://" in value else _PIECES_OF_A_LIST.split(value)
                hidden |= dict.fromkeys((str(value), *pieces), value.reference)  # safety: environment-hidden
    return hide(text, hidden)


def repeats_environment(text: str, options: Iterable[object]) -> bool:
    """Say whether a text repeats something, if only a part, of what options hold from the environment."""
    for value in texts_in(list(options)):
        if isinstance(value, FromEnvironment):
            ends = range(_HIDDEN_AT_LEAST, len(value) + 1)
            parts = [value[end - _HIDDEN_AT_LEAST : end] for end in ends] or [repr(str(value))]
            if any(part.lower() in text.lower() for part in parts):
                return True
    return False


def _behind_host(address: str) -> list[str]:
    _, _, path = address.partition("://")[2].partition("/")
    return _PIECES_OF_A_PATH.split(path)

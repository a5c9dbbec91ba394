"""Check options of notifiers. Errors never repeat a value, because it may be a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec
from urllib.parse import urlsplit

from celery_batches_notify.notifiers.references import is_reference

_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f\\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_ROOM = re.compile(r"(?!\.{1,2}$)[^\x00-\x1f\x7f/?#]{1,100}")


def check_url(option: str, value: object) -> None:
    """Raise `ValueError` unless this is an http(s) URL with a host, without a user name."""
    if is_reference(value):
        return
    example = "give an http:// or https:// address such as https://hooks.example.com/batches"
    if not isinstance(value, str) or _NOT_IN_URLS.search(value):
        raise ValueError(f"{option} is not a URL: {example}")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{option} is not a URL: {example}") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError(f"{option} is not an HTTP address: {example}")
    if "@" in parts.netloc:
        raise ValueError(
            f"{option} holds a user name: take it out, and use username= and password= if it has them"
        )


def check_text(option: str, value: object) -> None:
    """Raise `ValueError` unless this is a non-empty string without control characters."""
    if not isinstance(value, str) or not value or _CONTROL.search(value):
        raise ValueError(f"{option} must be a string on one line")


def check_flag(option: str, value: object) -> None:
    """Raise `ValueError` unless this is True or False."""
    if value is not True and value is not False:
        raise ValueError(f"{option} must be True or False")


def check_room(option: str, value: object) -> None:
    """Raise `ValueError` unless this is a room's number or name."""
    number = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not number and not (isinstance(value, str) and _ROOM.fullmatch(value)):
        raise ValueError(f"{option} must be the room's number or name, such as 111111")


def check_headers(option: str, value: object, reserved: frozenset[str]) -> None:
    """Raise `TypeError` or `ValueError` unless this maps names of headers that are not reserved to values."""
    if not isinstance(value, Mapping):
        raise TypeError(f'{option} must be a mapping such as {{"X-Team": "billing"}}')
    for name, content in value.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{option}: a header's name must consist of letters, digits and -")
        if name.lower() in reserved:
            raise ValueError(f"{option}: the notifier itself sets {name}: take it out")
        if not isinstance(content, str) or _CONTROL.search(content) or content != content.strip():
            raise ValueError(
                f"{option}: the value of {name} must be a string on one line, without blanks around it"
            )
        if not content.isascii():
            raise ValueError(f"{option}: the value of {name} must be ASCII")


def check_seconds(option: str, value: object) -> None:
    """Raise `ValueError` unless this is a time limit: a number of seconds, or a `timedelta`."""
    limit = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit <= 300:
        raise ValueError(f"{option} must be a number of seconds, at most 300, or a timedelta")


def to_seconds(value: float | timedelta) -> float:
    """Return a time limit as seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def check_extra(option: str, extra: str, module: str) -> None:
    """Raise `ValueError` unless the package behind an optional feature is installed."""
    if find_spec(module) is None:
        raise ValueError(f"{option} needs an extra: pip install 'celery-batches-notify[{extra}]'")

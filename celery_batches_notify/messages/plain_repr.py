"""Celery's `saferepr` of plain arguments, ten times as fast; Celery's own does the rest. Pure: no I/O."""

from __future__ import annotations

from typing import Any

from celery.utils.saferepr import saferepr

_SCALARS = frozenset({str, int, float, bool, type(None)})
_QUOTE, _ESCAPED = "'", "\\'"
_LEVELS_AT_MOST = 3  # what saferepr shows of deeper values differs between Celery's lines


def plain_repr(value: Any, maxlen: int, maxlevels: int) -> str:
    """Return what `saferepr(value, maxlen, maxlevels)` returns."""
    if _is_plain(value, maxlevels if maxlevels < _LEVELS_AT_MOST else _LEVELS_AT_MOST):
        text = repr(value)
        if "\\" in text or '"' in text:  # safety: escaped-repr
            text = _show(value)
        if len(text) < maxlen:  # safety: long-repr
            return text
    return saferepr(value, maxlen, maxlevels=maxlevels)


def _is_plain(value: Any, levels: int) -> bool:
    """Whether this is a container of scalars and of such containers, at most so many levels deep."""
    if levels <= 0:
        return False
    kind, inner = type(value), value
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        inner = value.values()
    elif kind is not tuple and kind is not list:
        return False
    for each in inner:  # noqa: SIM110 - all() takes twice the time
        if type(each) not in _SCALARS and not _is_plain(each, levels - 1):
            return False
    return True


def _show(value: Any) -> str:
    """Show a plain value as `saferepr` does, which escapes nothing but the quotes around a text."""
    kind = type(value)
    if kind is str:
        return f"'{value.replace(_QUOTE, _ESCAPED)}'"
    if kind is tuple:
        inner = ", ".join(map(_show, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if kind is list:
        return "[" + ", ".join(map(_show, value)) + "]"
    if kind is dict:
        return "{" + ", ".join([f"{_show(key)}: {_show(each)}" for key, each in value.items()]) + "}"
    return str(value)

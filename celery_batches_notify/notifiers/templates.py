"""Fill `${fields}` of the batch into the texts of a mail, escaped for each place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from string import Template
from typing import Any

from celery_batches_notify.headline import describe
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.escaping import escape_html
from celery_batches_notify.notifiers.summary import link_of, summarise, write_time
from celery_batches_notify.spelling import did_you_mean
from celery_batches_notify.text import one_line

VALUE_CHARACTERS = 1_000

_OF_STATUS = (
    *("bid", "description", "state", "total", "pending", "succeeded", "failures", "dead", "children"),
    *("parent_bid", "created_at", "sealed_at", "complete_at", "success_at", "death_at", "finish_at"),
    *("cancelled_at", "expires_at"),
)
_OF_NOTIFICATION = (
    *("tags", "progress", "event", "url", "id", "attempt", "headline", "sentence", "errors"),
    *("system", "environment"),
)
FIELDS = (*_OF_STATUS, *_OF_NOTIFICATION)


class _Braces(Template):
    """A template with `${name}` as its only kind of field, so that `$5` and `$PATH` stay as they are."""

    pattern = r"""
        \$(?:
            (?P<escaped>\$(?=\{))
            | (?P<named>(?!))
            | \{(?P<braced>[a-z_]+)\}
            | (?P<invalid>(?=\{))
        )
    """  # type: ignore[assignment]  # string.Template compiles it


def check_template(option: str, text: object) -> None:
    """Raise `TypeError` or `ValueError` unless this is a string whose fields a batch has."""
    if not isinstance(text, str):
        raise TypeError(f"{option} must be a string, got {text!r}")
    template = _Braces(text)
    unknown = sorted(set(template.get_identifiers()) - set(FIELDS))
    if unknown or not template.is_valid():
        field = f"${{{unknown[0]}}}" if unknown else re.findall(r"\$\{[^}]*\}?", text)[0]
        hint = did_you_mean(field.strip("${}"), FIELDS, show="${{{}}}".format)
        known = ", ".join(FIELDS)
        raise ValueError(
            f"{option}: there is no field {field}{hint}; the fields are {known}; write $${{ for ${{ itself"
        )


def fields_of(notification: Notification) -> dict[str, str]:
    """Return the values of all fields as plain text, each on one line except `errors`."""
    status, summary = notification.status, summarise(notification)
    values = {name: getattr(status, name) for name in _OF_STATUS}
    values |= {
        "tags": ", ".join(status.tags),
        "progress": f"{int(status.progress * 100)}%",
        "event": notification.event,
        "url": link_of(notification),
        "id": notification.id,
        "attempt": notification.attempt,
        "headline": summary.headline,
        "sentence": describe(status, notification.event, now=notification.read_at, limit=notification.limit),
        "system": notification.origin.name,
        "environment": notification.origin.environment,
    }
    lines = {name: one_line(_show(notification, value), VALUE_CHARACTERS) for name, value in values.items()}
    return lines | {"errors": "\n".join(summary.error_lines)}


def fill_header(text: str, fields: Mapping[str, str]) -> str:
    """Fill in a text that must stay on one line."""
    return _fill(text, fields, lambda value: " ".join(value.split()))  # safety: header-field


def fill_text(text: str, fields: Mapping[str, str]) -> str:
    """Fill in a plain text."""
    return _fill(text, fields, str)


def fill_html(text: str, fields: Mapping[str, str]) -> str:
    """Fill in HTML; the values of the fields are escaped."""
    return _fill(text, fields, lambda value: escape_html(value).replace("\n", "<br>"))  # safety: html-field


def _fill(text: str, fields: Mapping[str, str], escape: Callable[[str], str]) -> str:
    return _Braces(text).substitute({name: escape(value) for name, value in fields.items()})


def _show(notification: Notification, value: Any) -> str:
    if isinstance(value, datetime):
        return write_time(notification, value)
    return "" if value is None else str(value)

"""Decide what an HTTP answer means for a notification: it arrived, try later, or give up."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import unquote

from celery_batches_notify.errors import NotificationFailed
from celery_batches_notify.notifiers.base import Reply
from celery_batches_notify.notifiers.redaction import Redactor

RETRY_AFTER_AT_MOST_SECONDS = 3600.0
CHARACTERS_SHOWN = 200

# An operator can fix a refused login (401, 403, and a proxy's 407), like SMTP's 535.
_RETRIABLE_4XX = frozenset({401, 403, 407, 408, 409, 425, 429})
_ALONE = frozenset({409, 425})  # about this request only: others to the same address go on
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A receiver's answer. `body` holds its first 64 KB, as they came over the wire."""

    status_code: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def words(self) -> Reply:
        """The status in words, such as `404 Not Found`: the code's standard name, not the receiver's text."""
        words = str(self.status_code)
        with suppress(ValueError):
            words += f" {HTTPStatus(self.status_code).phrase}"
        return Reply(words, self.status_code)

    def header(self, name: str) -> str | None:
        """Return a header's value; the case of its name does not matter."""
        return next((v for k, v in self.headers.items() if k.lower() == name.lower()), None)


def is_success(status_code: int) -> bool:
    """Return whether the receiver accepted the request."""
    return 200 <= status_code < 300


def is_permanent(status_code: int) -> bool:
    """Return whether trying again is pointless after this status."""
    if 400 <= status_code < 500:
        return status_code not in _RETRIABLE_4XX
    return status_code in (301, 308)  # moved for good; the other redirects may be a maintenance page


def to_failure(who: str, answer: Answer, redactor: Redactor) -> NotificationFailed:
    """Make the error for an unsuccessful answer.

    Args:
        who: The part of the receiver's address that the error may show.
        answer: The answer.
        redactor: Finds secrets. The error does not quote an answer that repeats one.
    """
    permanent = is_permanent(answer.status_code)
    said = "answered " + answer.words
    if 300 <= answer.status_code < 400:
        said += ": redirects are not followed, so the url must be the final address"
    elif quoted := _quote(answer, redactor):
        said += f": {quoted}"
    now = _parse_date(answer.header("Date") or "") or datetime.now(UTC)
    retry_after = None if permanent else parse_retry_after(answer.header("Retry-After"), now=now)
    return NotificationFailed(
        f"{who}: {said}",
        permanent=permanent,
        retry_after=retry_after,
        status_code=answer.status_code,
        alone=answer.status_code in _ALONE,
    )


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Read a `Retry-After` header: seconds or an HTTP date.

    Args:
        value: The header's value, or None.
        now: The receiver's clock.

    Returns:
        Seconds from 0 to 3600, or None if the header is missing or unreadable.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    elif (at := _parse_date(text)) is not None:
        seconds = (at - now).total_seconds()
    else:
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_AT_MOST_SECONDS)


def _quote(answer: Answer, redactor: Redactor) -> str | None:
    """Return a short plain answer, such as Slack's `channel_is_archived`, or None if it repeats a secret."""
    kind = (answer.header("Content-Type") or "").partition(";")[0].strip().lower()
    if kind not in ("text/plain", "application/json"):
        return None
    text = " ".join(answer.body.decode("utf-8", "replace").split())
    if not text or not text.isprintable() or len(text) > CHARACTERS_SHOWN:
        return None
    plain = html.unescape(unquote(text.replace("\\/", "/")))
    return None if redactor.finds(text) or redactor.finds(plain) else text


def _parse_date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)

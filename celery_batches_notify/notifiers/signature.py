"""Sign webhooks and verify them, according to Standard Webhooks 1.0.0.

Receivers need only `verify`, which works without the rest of this package.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from celery_batches_notify.errors import BatchesError

PREFIX = "whsec_"
KEY_BYTES = range(24, 65)
TOLERANCE_SECONDS = 300.0

_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class InvalidSignature(BatchesError, ValueError):
    """A webhook is forged or old: answer 401 and do nothing else.

    If this happens to genuine webhooks: check the secret, verify the unparsed body, and set the clock.
    """


def new_secret() -> str:
    """Return a new secret. Write it into the configuration of both sides."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def verify(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> dict[str, Any]:
    """Return a webhook's content if it is genuine and fresh.

    Args:
        body: The request's body, before anything parsed it.
        headers: The request's headers; the case of their names does not matter.
        secret: The `whsec_…` secret, or several while you change them; one must fit.
        tolerance_seconds: The largest accepted difference between the sender's clock and this one.
        now: Unix time in seconds; the system's clock by default.

    Returns:
        The JSON body. Remember the `webhook-id` header: a repeat of the same notification has the same id.

    Raises:
        InvalidSignature: A header is missing, no signature fits, or the webhook is too old or too new.
        ValueError: The secret is malformed.
    """
    keys = [decode_secret(one) for one in list_secrets(secret)]
    content = body.encode("utf-8", "replace") if isinstance(body, str) else body
    names = {name.lower(): value for name, value in headers.items()}
    try:
        sent_id, timestamp, given = (names[f"webhook-{part}"] for part in ("id", "timestamp", "signature"))
    except KeyError as exc:
        raise InvalidSignature(f"the request has no {exc.args[0]} header") from None
    if not _TIMESTAMP.fullmatch(timestamp):
        raise InvalidSignature("the webhook-timestamp header is not a number of seconds")
    expected = [_sign(key, sent_id, timestamp, content) for key in keys]
    offered = [one.encode("utf-8", "replace") for one in given.split(" ")]
    # Compares all of them in constant time, so that the time does not show which one fits, or how much of it.
    if not any([hmac.compare_digest(mine, theirs) for mine in expected for theirs in offered]):  # noqa: C419
        raise InvalidSignature("no signature fits")
    if abs((time.time() if now is None else now) - int(timestamp)) > tolerance_seconds:
        raise InvalidSignature(f"it was signed more than {tolerance_seconds:g} s away from this clock")
    return _parse(content)


def sign(body: bytes, secret: str | Sequence[str], *, webhook_id: str, timestamp: int) -> str:
    """Return the `webhook-signature` header: one signature for each secret.

    Args:
        body: The bytes to send.
        secret: One or several `whsec_…` secrets.
        webhook_id: The `webhook-id` header.
        timestamp: The `webhook-timestamp` header: Unix seconds of this attempt.

    Raises:
        ValueError: A secret is malformed.
    """
    keys = [decode_secret(one) for one in list_secrets(secret)]
    return " ".join(_sign(key, webhook_id, str(timestamp), body).decode() for key in keys)


def list_secrets(secret: str | Sequence[str]) -> Sequence[str]:
    """Return one or several secrets as a sequence; raise `ValueError` if it is empty."""
    found = [secret] if isinstance(secret, str) else secret
    if not found:
        raise ValueError("give at least one secret")
    return found


def decode_secret(secret: object) -> bytes:
    """Return the key inside a secret; raise `ValueError`, which does not repeat it, if it is malformed."""
    fix = (
        f"a secret must be {PREFIX} and the base64 of {KEY_BYTES[0]} to {KEY_BYTES[-1]} random bytes; "
        "make one with new_secret() of celery_batches_notify.notifiers.signature"
    )
    if not isinstance(secret, str) or not secret.startswith(PREFIX):
        raise ValueError(fix)
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(fix) from None
    if len(key) not in KEY_BYTES:
        raise ValueError(fix)
    return key


def _sign(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> bytes:
    signed = f"{webhook_id}.{timestamp}.".encode("utf-8", "replace") + body
    return b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))


def _parse(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidSignature("it is signed, but its body is not a JSON object")
    return value

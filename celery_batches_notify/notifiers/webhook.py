"""POST a batch's status as JSON to an address of the user's, signed if a secret is set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.failures import restrict
from celery_batches_notify.notifiers.http import HttpNotifier, basic_auth, dump_json
from celery_batches_notify.notifiers.options import check_headers, check_text, check_url
from celery_batches_notify.notifiers.references import is_reference
from celery_batches_notify.notifiers.signature import decode_secret, list_secrets, sign

BODY_BYTES = 64 * 1024

_RESERVED = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "transfer-encoding",
        "user-agent",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook(HttpNotifier):
    """POST the status of the batch to a URL.

    Attributes:
        url: The receiver. Its path and query are never logged.
        username: For Basic auth, together with `password`.
        password: For Basic auth.
        secret: The `whsec_…` secret of the signature (Standard Webhooks), or several while you change them.
        headers: Headers of your own, such as a token that the receiver asks for.
    """

    name: ClassVar[str] = "webhook"
    secrets: ClassVar[frozenset[str]] = frozenset({"password", "secret", "headers"})
    credentials: ClassVar[frozenset[str]] = frozenset({"username", "password", "secret", "headers"})

    url: str = field(repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    secret: str | Sequence[str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        HttpNotifier.__post_init__(self)
        check_url("url", self.url)
        self._check_login()
        for secret in [] if self.secret is None else list_secrets(self.secret):
            if not is_reference(secret):
                decode_secret(secret)

    def send(self, notification: Notification) -> str:
        """POST once; see `HttpNotifier.post`."""
        body = render_body(restrict(notification, self.failures))
        timestamp = int(time.time())
        headers = {
            **self.headers,
            "Content-Type": "application/json",
            "Idempotency-Key": notification.id,
            "webhook-id": notification.id,
            "webhook-timestamp": str(timestamp),
        }
        if self.secret is not None:
            headers["webhook-signature"] = sign(
                body, self.secret, webhook_id=notification.id, timestamp=timestamp
            )
        authorization = None
        if self.username is not None and self.password is not None:
            authorization = basic_auth(self.username, self.password)
        return self.post(self.url, body, headers, authorization=authorization).words

    def _check_login(self) -> None:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together: give both or neither")
        if self.username is not None:
            check_text("username", self.username)
            check_text("password", self.password)
            if ":" in self.username and not is_reference(self.username):
                raise ValueError("username must not hold a colon, because Basic auth cannot encode it")
        reserved = _RESERVED | {"authorization"} if self.username is not None else _RESERVED
        check_headers("headers", self.headers, reserved)


def render_body(notification: Notification) -> bytes:
    """Return the body as JSON of at most 64 KB; the least important parts are left out first."""
    content = notification.as_dict()
    body = dump_json(content)
    for lighten in _LIGHTER:
        if len(body) <= BODY_BYTES:
            break
        content = lighten(content)
        body = dump_json(content)
    return body


def _shorten_backtraces(content: dict[str, Any]) -> dict[str, Any]:
    """Keep the last lines of each backtrace, because they say what happened."""
    return _change_failures(content, lambda f: {"backtrace": f["backtrace"] and f["backtrace"][-2_000:]})


def _drop_backtraces(content: dict[str, Any]) -> dict[str, Any]:
    return _change_failures(content, lambda _: {"backtrace": None})


def _shorten_failures(content: dict[str, Any]) -> dict[str, Any]:
    return _change_failures(content, lambda f: {key: _clip(value, 200) for key, value in f.items()})


def _drop_failures(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"failure_info": []}


def _shorten_words(content: dict[str, Any]) -> dict[str, Any]:
    tags = [_clip(tag, 100) for tag in content["tags"][:20]]
    return {key: _clip(value, 1_000) for key, value in content.items()} | {"tags": tags}


_LIGHTER = (_shorten_backtraces, _drop_backtraces, _shorten_failures, _drop_failures, _shorten_words)


def _change_failures(
    content: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    return content | {"failure_info": [failure | change(failure) for failure in content["failure_info"]]}


def _clip(value: Any, characters: int) -> Any:
    return value[:characters] if isinstance(value, str) else value

"""POST once, within a total time; an error has a text of our own.

All notifiers over HTTP use this, and notifiers of your own may too.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlsplit

from celery_batches_notify import __version__
from celery_batches_notify.errors import NotificationFailed
from celery_batches_notify.notifiers.deadline import DeadlinePassed, run_within
from celery_batches_notify.notifiers.failures import FULL, check_failures
from celery_batches_notify.notifiers.http.answer import Answer, is_success, to_failure
from celery_batches_notify.notifiers.options import (
    check_extra,
    check_flag,
    check_seconds,
    check_text,
    check_url,
    to_seconds,
)
from celery_batches_notify.notifiers.redaction import Redactor, pieces_of
from celery_batches_notify.notifiers.references import texts_in

TIMEOUT_SECONDS = 15.0
CONNECT_TIMEOUT_SECONDS = 5.0
ANSWER_BYTES_READ = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpNotifier:
    """The base of notifiers over HTTP: their common options, and `post`.

    Attributes:
        timeout: The total time of one attempt: seconds or a `timedelta`.
        ca_file: A file of certificates to trust instead of the usual ones.
        allow_private: False refuses receivers whose address is not public (extra `ssrf`). It also ignores
            HTTP proxies, which would look the address up again.
        failures: How much the receiver may see of the failures: `none`, `counts`, `messages` or `full`.
    """

    name: ClassVar[str]
    secrets: ClassVar[frozenset[str]] = frozenset()
    credentials: ClassVar[frozenset[str]] = frozenset()

    timeout: float | timedelta = TIMEOUT_SECONDS
    ca_file: str | None = None
    allow_private: bool = True
    failures: str = FULL

    def __post_init__(self) -> None:
        check_seconds("timeout", self.timeout)
        check_flag("allow_private", self.allow_private)
        check_failures(self.failures)
        if self.ca_file is not None:
            check_text("ca_file", self.ca_file)
        if not self.allow_private:
            check_extra("allow_private=False", "ssrf", "requests_hardened")

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, authorization: str | None = None
    ) -> Answer:
        """POST with the notifier's options, and hide its secrets in errors; see `post` of this module."""
        return post(
            url,
            body,
            headers,
            authorization=authorization,
            timeout=to_seconds(self.timeout),
            ca_file=self.ca_file,
            allow_private=self.allow_private,
            hidden=self._read_secrets(),
        )

    def post_json(self, url: str, payload: Mapping[str, Any], *, authorization: str | None = None) -> Answer:
        """POST a JSON body."""
        headers = {"Content-Type": "application/json"}
        return self.post(url, dump_json(payload), headers, authorization=authorization)

    def _read_secrets(self) -> Iterator[str]:
        for option in self.secrets | self.credentials:
            yield from texts_in(getattr(self, option))


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    authorization: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    ca_file: str | None = None,
    allow_private: bool = True,
    hidden: Iterable[str] = (),
) -> Answer:
    """POST once. No redirects, no retries, no `~/.netrc`; TLS is verified.

    Args:
        url: An http:// or https:// address. Errors show only its scheme, host and port.
        body: The bytes to send.
        headers: Headers besides `User-Agent` and `Authorization`.
        authorization: The value of the `Authorization` header; see `basic_auth`.
        timeout: The total time, in seconds.
        ca_file: A file of certificates to trust instead of the usual ones.
        allow_private: Whether the receiver's address may be private.
        hidden: Secrets. If the receiver's answer repeats one, the error does not quote the answer.

    Returns:
        The receiver's answer, a success (2xx).

    Raises:
        NotificationFailed: The receiver answered otherwise, or not at all.
    """
    try:
        check_url("url", url)
    except ValueError as exc:
        raise NotificationFailed(str(exc), permanent=True) from None
    sent = {"User-Agent": user_agent(), "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
    sent |= headers
    if authorization is not None:
        sent["Authorization"] = authorization
    answer = _exchange(timeout, url, body, sent, ca_file=ca_file, allow_private=allow_private)
    if is_success(answer.status_code):
        return answer
    secrets = {*hidden, *pieces_of(url), *headers.values(), *(authorization or "").split()}
    raise to_failure(show_origin(url), answer, Redactor(secrets))


def basic_auth(username: str, password: str) -> str:
    """Return the value of an `Authorization` header for Basic auth, in UTF-8."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def dump_json(value: object) -> bytes:
    """Return compact JSON in UTF-8. Half a surrogate pair, which UTF-8 cannot encode, becomes a `?`."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def show_origin(url: str) -> str:
    """Return an address's scheme, host and port, which errors and logs may show."""
    with suppress(ValueError):
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return "the receiver"


@functools.cache
def user_agent() -> str:
    """Return this package's `User-Agent`."""
    return f"celery-batches-notify/{__version__}"


def _exchange(timeout: float, *request: Any, **options: Any) -> Answer:
    # Loaded late, because requests is slow to load, and declaring a callback does not need it.
    from celery_batches_notify.notifiers.http.transport import Exchange, Trouble  # noqa: PLC0415

    exchange = Exchange(
        *request,
        connect_timeout=min(CONNECT_TIMEOUT_SECONDS, timeout),
        read_timeout=timeout,
        receive_at_most=ANSWER_BYTES_READ,
        **options,
    )
    too_late = None
    try:
        run_within(timeout, exchange.run, exchange.cut)
    except DeadlinePassed:
        too_late = Trouble(message=f"no answer within {timeout:g} s")
    if exchange.status_code is not None:  # the status decides, even if the body did not arrive
        return Answer(
            status_code=exchange.status_code, headers=exchange.headers, body=bytes(exchange.received)
        )
    trouble = too_late or exchange.trouble or Trouble(message="no answer")
    # Raised outside of any handler, so that no foreign error, whose text holds the address, is its context.
    raise NotificationFailed(f"{show_origin(request[0])}: {trouble.message}", permanent=trouble.permanent)

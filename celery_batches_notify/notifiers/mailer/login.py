"""Read the login of a mailer: from its options, or from yagmail's file (Gmail's OAuth2) or keyring.

yagmail prompts at the terminal if something is missing, and a worker cannot answer. So this module reads
yagmail's file and keyring first, and never calls yagmail without the data it needs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from celery_batches_notify.notifiers.mailer.options import SmtpOptions
from celery_batches_notify.notifiers.mailer.receipt import MailFailed
from celery_batches_notify.text import one_line

XOAUTH2 = "xoauth2"

_KEYS = ("google_client_id", "google_client_secret", "google_refresh_token")
_FILE = (
    "make it once at a terminal, python -c \"import yagmail; yagmail.SMTP('you@gmail.com', "
    "oauth2_file='oauth2.json')\", and give the worker the file"
)


def read_login(options: SmtpOptions) -> tuple[str, str, str | None] | None:
    """Return the name, the secret and the mechanism of the login, or None if the mailer does not log in.

    Raises:
        MailFailed: The secret is missing.
    """
    if not options.logs_in:
        return None
    if options.oauth2_file is not None:
        return _read_oauth2(options.oauth2_file, options.user_name)
    name = options.user_name or ""
    secret = _read_keyring(name) if options.keyring else options.password or ""
    return name, secret, options.authentication


def _read_keyring(name: str) -> str:
    from yagmail import password  # noqa: PLC0415 -- yagmail is slow to import

    keyring: Any = getattr(password, "keyring", None)
    if keyring is None:
        raise MailFailed("via_options: keyring needs an extra: pip install 'celery-batches-notify[keyring]'")
    try:
        secret = keyring.get_password("yagmail", name)
    except Exception as exc:  # noqa: BLE001 -- each system's keyring has errors of its own
        raise MailFailed(f"the keyring cannot be read: {type(exc).__name__}") from None
    if not isinstance(secret, str):  # safety: keyring-text
        raise MailFailed(
            f"the keyring holds no password for {name}: put it there as the worker's user, "
            f"python -c \"import yagmail; yagmail.register('{name}', '…')\""
        )
    return secret


def _read_oauth2(file: str, name: str | None) -> tuple[str, str, str]:
    """Trade the refresh token in yagmail's file for an access token, which is valid for an hour."""
    path = Path(file).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        message = f"oauth2_file {str(path)!r} cannot be read ({type(exc).__name__}); {_FILE}"
        raise MailFailed(message) from None
    found = content if isinstance(content, dict) else {}
    found = found if name is None else {**found, "email_address": name}
    if missing := [key for key in (*_KEYS, "email_address") if not isinstance(found.get(key), str)]:
        raise MailFailed(f"oauth2_file {str(path)!r} has no {', '.join(missing)}; {_FILE}")
    return found["email_address"], _fetch_token([found[key] for key in _KEYS]), XOAUTH2


def _fetch_token(credentials: list[str]) -> str:
    from yagmail import oauth2  # noqa: PLC0415

    try:
        token, _ = oauth2.refresh_authorization(*credentials)
    except HTTPError as exc:
        with exc:
            said = one_line(f"{exc.code} {_read_error(exc.read(10_000))}", 100)
        raise MailFailed(
            f"no OAuth2 token: Google answered {said}; invalid_grant means that the refresh token ended: "
            + _FILE
        ) from None
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise MailFailed(f"no OAuth2 token: {type(exc).__name__} at Google") from None
    if not isinstance(token, str):
        raise MailFailed("no OAuth2 token: Google's answer has none")
    return token


def _read_error(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        return ""

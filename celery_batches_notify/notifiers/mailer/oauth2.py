"""OAuth2 for SMTP: yagmail's credentials file, without yagmail's questions and with timeouts.

yagmail asks at the terminal where the file is missing or unfinished, and fetches the access token
without a timeout; a worker can afford neither.
"""

from __future__ import annotations

import json
from pathlib import Path

import requests

from celery_batches_notify.notifiers.mailer.options import SmtpOptions
from celery_batches_notify.notifiers.mailer.receipt import MailFailed
from celery_batches_notify.text import one_line

GOOGLE_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 -- an address
_KEYS = ("google_client_id", "google_client_secret", "google_refresh_token")
_MEND = (
    "make it once at a terminal, python -c \"import yagmail; yagmail.SMTP('you@gmail.com', "
    "oauth2_file='oauth2.json')\", and give the worker the file"
)


def read_credentials(options: SmtpOptions) -> dict[str, str]:
    """Return what `oauth2_file` holds, and the name to log in with as `email_address`.

    Raises:
        MailFailed: The file is missing, unreadable, or not the finished one that yagmail writes.
    """
    path = Path(options.oauth2_file or "").expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise MailFailed(
            f"oauth2_file {str(path)!r} cannot be read ({type(exc).__name__}); {_MEND}"
        ) from None
    found = content if isinstance(content, dict) else {}
    if options.user_name is not None:
        found = {**found, "email_address": options.user_name}
    if missing := [key for key in (*_KEYS, "email_address") if not isinstance(found.get(key), str)]:
        raise MailFailed(f"oauth2_file {str(path)!r} has no {', '.join(missing)}; {_MEND}")
    return found


def fetch_access_token(credentials: dict[str, str], options: SmtpOptions) -> str:
    """Trade the refresh token for an access token, which lives for about an hour.

    Raises:
        MailFailed: The provider cannot be reached or does not give one.
    """
    uri = credentials.get("token_uri", GOOGLE_TOKEN_URI)
    form = {
        "client_id": credentials["google_client_id"],
        "client_secret": credentials["google_client_secret"],
        "refresh_token": credentials["google_refresh_token"],
        "grant_type": "refresh_token",
    }
    if not uri.startswith("https://"):
        raise MailFailed("oauth2_file: token_uri is not an https address, and secrets travel to it")
    try:
        answer = requests.post(
            uri, data=form, timeout=(options.open_timeout, options.read_timeout), allow_redirects=False
        )
        token = answer.json().get("access_token") if answer.status_code == requests.codes.ok else None
    except (requests.RequestException, ValueError, AttributeError) as exc:
        # without the cause: it holds the request, and that the secrets
        raise MailFailed(f"no OAuth2 token: {type(exc).__name__} at the provider") from None
    if not isinstance(token, str):
        said = one_line(_error(answer), 100)
        raise MailFailed(
            f"no OAuth2 token: the provider answered {answer.status_code} {said}; where it says "
            f"invalid_grant the refresh token has ended: {_MEND}"
        )
    return token


def _error(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.reason or ""

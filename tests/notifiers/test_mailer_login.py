"""yagmail's part of the mailer: Gmail's tokens and passwords in a keyring, without a prompt."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yagmail.oauth2
import yagmail.password

from tests.support.http_server import Authority, Server, answer, hang, serving
from tests.support.mail_sending import CANARY, send, send_in_vain
from tests.support.smtp_server import PASSWORD, TOKEN, USER, SmtpServer

Serve = Callable[..., SmtpServer]
Google = Callable[..., AbstractContextManager[Server]]


@pytest.fixture
def google(mail_authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Google:
    """A server in Google's place; yagmail has the address in a constant of its module."""
    monkeypatch.setenv("SSL_CERT_FILE", mail_authority.file)
    monkeypatch.setenv("NO_PROXY", "*")

    def start(reply: Callable[..., None]) -> AbstractContextManager[Server]:
        server = serving(reply, tls=mail_authority.issue("127.0.0.1"))
        return _standing_in(server, monkeypatch)

    return start


class _standing_in(AbstractContextManager[Server]):  # noqa: N801 -- used as a function
    def __init__(self, server: AbstractContextManager[Server], patch: pytest.MonkeyPatch) -> None:
        self._server, self._patch = server, patch

    def __enter__(self) -> Server:
        server = self._server.__enter__()
        self._patch.setattr(yagmail.oauth2, "GOOGLE_ACCOUNTS_BASE_URL", server.url)
        return server

    def __exit__(self, *exc: Any) -> None:
        self._server.__exit__(*exc)


def token(text: str = TOKEN) -> Callable[..., None]:
    return answer(200, json.dumps({"access_token": text, "expires_in": 3599}).encode())


def credentials(folder: Path, **changes: Any) -> str:
    content = {
        "email_address": USER,
        "google_client_id": "client",
        "google_client_secret": f"{CANARY}-client",
        "google_refresh_token": f"{CANARY}-refresh",
        **changes,
    }
    path = folder / "oauth2.json"
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return str(path)


# -- Gmail's OAuth2 -----------------------------------------------------------------------------------


def test_oauth2_trades_the_refresh_token_and_logs_in_with_the_access_token(
    smtp_server: Serve, mail_authority: Authority, google: Google, tmp_path: Path
) -> None:
    server = smtp_server(starttls=mail_authority.issue("127.0.0.1"), offers=("PLAIN", "XOAUTH2"))
    with google(token()) as tokens:
        send(server.port, ca_file=mail_authority.file, oauth2_file=credentials(tmp_path))

    assert server.only.mechanism == "XOAUTH2"
    assert tokens.only.path == "/o/oauth2/token"
    assert tokens.only.form == {
        "client_id": "client",
        "client_secret": f"{CANARY}-client",
        "refresh_token": f"{CANARY}-refresh",
        "grant_type": "refresh_token",
    }


def test_an_access_token_that_is_refused_is_535(smtp_server: Serve, google: Google, tmp_path: Path) -> None:
    server = smtp_server(offers=("XOAUTH2",))
    with google(token(f"{CANARY}-old")):
        failed = send_in_vain(server.port, oauth2_file=credentials(tmp_path))

    assert (failed.status_code, failed.permanent) == (535, False)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            400,
            b'{"error": "invalid_grant"}',
            "answered 400 invalid_grant; invalid_grant means that the",
        ),
        (500, b"oops", "Google answered 500"),
        (200, b"not json", "JSONDecodeError at Google"),
        (200, b"[]", "TypeError at Google"),
        (200, b"{}", "KeyError at Google"),
        (200, b'{"access_token": 5, "expires_in": 1}', "Google's answer has none"),
    ],
)
def test_no_token_from_google_can_be_tried_again(
    google: Google, tmp_path: Path, status: int, body: bytes, said: str
) -> None:
    with google(answer(status, body)):
        failed = send_in_vain(1, oauth2_file=credentials(tmp_path))

    assert said in str(failed) and not failed.permanent


@pytest.mark.parametrize("status", [302, 307])
def test_the_secrets_do_not_follow_a_redirect(google: Google, tmp_path: Path, status: int) -> None:
    with serving(token()) as other, google(answer(status, Location=f"{other.url}/x")):
        send_in_vain(1, oauth2_file=credentials(tmp_path))

    assert all(CANARY not in str(request) for request in other.received)


def test_a_google_that_is_away_or_silent_fails_in_time(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with google(hang):
        failed = send_in_vain(1, oauth2_file=credentials(tmp_path), total_timeout=0.3)
    assert "0.3 s in all" in str(failed)
    monkeypatch.setattr(yagmail.oauth2, "GOOGLE_ACCOUNTS_BASE_URL", "https://127.0.0.1:1")
    assert "URLError at Google" in str(send_in_vain(1, oauth2_file=credentials(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"google_refresh_token": None}, "google_refresh_token"), ({"email_address": None}, "email_address")],
)
def test_an_unfinished_credentials_file_is_an_error_and_no_question(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    failed = send_in_vain(1, oauth2_file=credentials(tmp_path, **changes))

    assert said in str(failed) and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [None, "not json", "[]", '{"installed": {}}'])
def test_a_missing_or_foreign_credentials_file_is_an_error_and_no_question(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: str | None
) -> None:
    path = tmp_path / "oauth2.json"
    if content is not None:
        path.write_text(content)

    failed = send_in_vain(1, oauth2_file=str(path))

    assert "at a terminal" in str(failed) and capfd.readouterr() == ("", "")


# -- the keyring --------------------------------------------------------------------------------------


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """yagmail's keyring, as a dict, because machines for tests lack a keyring."""
    held: dict[tuple[str, str], str] = {}
    double = SimpleNamespace(get_password=lambda service, user: held.get((service, user)))
    monkeypatch.setattr(yagmail.password, "keyring", double, raising=False)
    return held


def test_a_password_comes_from_yagmails_keyring(
    smtp_server: Serve, keyring: dict[tuple[str, str], str]
) -> None:
    keyring["yagmail", USER] = PASSWORD
    server = smtp_server(offers=("PLAIN",))

    send(server.port, user_name=USER, keyring=True)

    assert server.only.mechanism == "PLAIN"


def test_a_password_that_is_not_there_is_an_error_and_no_question(
    keyring: dict[tuple[str, str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    failed = send_in_vain(1, user_name=USER, keyring=True)

    assert f"the keyring holds no password for {USER}: put it there as the worker's user" in str(failed)
    assert "yagmail.register(" in str(failed)
    assert not failed.permanent and capfd.readouterr() == ("", "")


def test_a_keyring_that_is_locked_or_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: str) -> str:
        raise RuntimeError(f"{CANARY} locked")

    monkeypatch.setattr(yagmail.password, "keyring", SimpleNamespace(get_password=locked), raising=False)
    assert "the keyring cannot be read: RuntimeError" in str(send_in_vain(1, user_name=USER, keyring=True))
    monkeypatch.setattr(yagmail.password, "keyring", None, raising=False)
    assert "pip install 'celery-batches-notify[keyring]'" in str(
        send_in_vain(1, user_name=USER, keyring=True)
    )


# -- no more than that --------------------------------------------------------------------------------


def test_an_ordinary_mail_does_not_load_yagmail(smtp_server: Serve) -> None:
    server = smtp_server()
    code = (
        "import sys; from celery_batches_notify.notifiers.mailer import mail; "
        "mail('a@x.test', from_='b@x.test', body='x', via='smtp', "
        f"via_options={{'address': '127.0.0.1', 'port': {server.port}}}); "
        "print(*sorted({'yagmail', 'premailer', 'lxml'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == ""
    assert server.only.recipients == ["a@x.test"]

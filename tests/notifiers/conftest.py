"""SMTP servers for the tests of the mailer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from celery_batches_notify.notifiers import mailer
from tests.support.http_server import Authority
from tests.support.smtp_server import SmtpServer, serving_smtp


@pytest.fixture(scope="session")
def mail_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that nobody trusts by default."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def smtp_server() -> Iterator[Callable[..., SmtpServer]]:
    """Start servers; see `SmtpServer` for what they can do."""
    with ExitStack() as stack:
        yield lambda **how: stack.enter_context(serving_smtp(**how))


@pytest.fixture
def outbox() -> Iterator[list[mailer.Letter]]:
    """The outbox of `via="test"`, empty before and after each test."""
    mailer.outbox.clear()
    yield mailer.outbox
    mailer.outbox.clear()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A sendmail that writes its arguments and its input beside itself, and exits with the code in `exit`."""
    path = tmp_path / "sendmail"
    path.write_text(
        "#!/bin/sh\n"
        'here=$(dirname "$0")\n'
        'printf \'%s\\n\' "$@" > "$here/arguments"\n'
        'cat > "$here/mail"\n'
        'test -f "$here/exit" || exit 0\n'
        'echo "sendmail: told to fail"\n'
        'exit "$(cat "$here/exit")"\n'
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove proxies and certificates from the environment."""
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

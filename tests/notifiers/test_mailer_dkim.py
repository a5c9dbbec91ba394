"""DKIM: the signature fits every mail that arrives, and no changed one."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from celery_batches_notify import ConfigurationError, NotificationFailed
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.base import build_notifier
from celery_batches_notify.notifiers.email import Email
from celery_batches_notify.notifiers.mailer import Letter, MailFailed, mail
from tests.support.samples import HOSTILE, failing, hostile
from tests.support.smtp_server import SmtpServer

Serve = Callable[..., SmtpServer]
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
).decode()
PUBLIC = KEY.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
)
SIGN = {"domain": "x.test", "selector": "mail", "private_key": PEM}


def is_signed(content: bytes) -> bool:
    """Verify as a reader's server does, which gets the public key from the DNS."""
    import dkim

    def ask(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"mail._domainkey.x.test."
        return b"v=DKIM1; k=rsa; p=" + base64.b64encode(PUBLIC)

    return bool(dkim.verify(content, dnsfunc=ask))


def email(**options: Any) -> Email:
    given = {"to": "a@x.test", "from": "c@x.test", "dkim": SIGN, **options}
    return build_notifier(Email, given)  # type: ignore[return-value, type-abstract]


@pytest.mark.parametrize("about", [failing(), *map(hostile, HOSTILE)], ids=range(len(HOSTILE) + 1))
def test_a_signature_fits_whatever_is_in_the_mail(smtp_server: Serve, about: Notification) -> None:
    server = smtp_server()
    via = {"address": "127.0.0.1", "port": server.port}
    email(via="smtp", via_options=via, attachments={"Größe.bin": b"\x00\xff"}).send(about)

    content = server.only.content
    assert is_signed(content)
    assert not is_signed(content.replace(b"Subject:", b"Subject: x"))
    assert not is_signed(content.replace(b"celery", b"Celery"))


@pytest.mark.parametrize("body", ["From here\n.\n..dots \ttab \n\n\n", "Größe " * 300, ""])
def test_every_kind_of_body_is_signed_as_it_travels(outbox: list[Letter], body: str) -> None:
    for parts in ({"body": body}, {"html_body": body}, {"body": body, "charset": "iso-8859-1"}):
        mail("a@x.test", from_="c@x.test", subject="Hi", dkim=SIGN, via="test", **parts)
    assert all(is_signed(letter.as_bytes()) and is_signed(letter.as_bytes("\n")) for letter in outbox)


def test_a_key_may_be_a_path_or_come_from_the_environment(
    outbox: list[Letter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.pem"
    path.write_text(PEM)
    monkeypatch.setenv("DKIM_KEY", PEM)
    for key in (path, "env:DKIM_KEY"):
        email(dkim={**SIGN, "private_key": key}, via="test").send(failing())
    assert [is_signed(letter.as_bytes()) for letter in outbox] == [True, True]


def test_a_key_that_cannot_be_used_is_an_error_without_the_key(tmp_path: Path) -> None:
    for key in ("SENTINEL", PEM.replace("A", "B", 30)):
        with pytest.raises(MailFailed, match=r"dkim: private_key cannot be used .* give an RSA") as caught:
            mail("a@x.test", body="x", dkim={**SIGN, "private_key": key}, via="test")
        assert "SENTINEL" not in str(caught.value) and not caught.value.permanent
    with pytest.raises(NotificationFailed, match=r"private_key cannot be read from .*none\.pem: No"):
        email(dkim={**SIGN, "private_key": tmp_path / "none.pem"}, via="test").send(failing())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("x.test", "must be a mapping with the keys domain, selector, private_key"),
        ({"domain": "x.test"}, "must be a mapping with the keys"),
        ({**SIGN, "domain": "x test"}, "domain 'x test' is not a name in the DNS"),
        ({**SIGN, "selector": ""}, "selector '' is not a name"),
        ({**SIGN, "private_key": 5}, "private_key must be a key in PEM, or a Path"),
    ],
)
def test_wrong_options_are_named_with_their_fix(options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        email(dkim=options, via="test")

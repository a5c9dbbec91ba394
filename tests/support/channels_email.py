"""Mail under the contract of all channels: what an SMTP server does in each mood."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

import pytest

from celery_batches_notify.notifiers.base import Notifier
from celery_batches_notify.notifiers.email import Email
from celery_batches_notify.notifiers.email.body import write_digest
from celery_batches_notify.notifiers.email.html import write_html
from celery_batches_notify.text import one_line
from tests.support import samples, smtp_server
from tests.support.channels import CANARY, SECONDS, Harmless, Mood, Visit
from tests.support.http_server import silent
from tests.support.smtp_server import USER, Peer, Received, misbehaving, serving_smtp

TO = "ops@example.com"
LOGIN = base64.b64encode(f"\0{USER}\0{CANARY}".encode()).decode()
ANSWERS: dict[Mood, dict[str, list[str]]] = {
    Mood.ACCEPTS: {},
    Mood.FAILS: {"DATA": ["451 4.3.0 local error"]},
    Mood.REFUSES: {TO: ["550 5.1.1 no such user"]},
    Mood.IS_GONE: {"MAIL": ["553 5.1.8 we know you no more"]},
    Mood.IS_BUSY: {TO: ["450 4.2.1 come back in 7 s"]},
    Mood.TELLS: {"DATA": [f"554 5.7.1 {CANARY} {LOGIN} is wrong"]},
}


UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def drip(peer: Peer) -> None:
    peer.drip("220-wait\r\n")


def break_off(peer: Peer) -> None:
    peer.say("220 mx.test")
    peer.hear()


class EmailChannel:
    """Mail over SMTP, with a login."""

    label = "email"
    kind: type[Notifier] = Email
    secrets = frozenset({CANARY, LOGIN, base64.b64encode(CANARY.encode()).decode()})
    tells_wait = False
    is_for_people = True

    @contextmanager
    def open(self, mood: Mood) -> Iterator[Visit]:
        """Run a server in this mood; it knows the canary as a password, and does not log what it hears."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(smtp_server, "PASSWORD", CANARY)
            patch.setattr(logging.getLogger("mail.log"), "disabled", True)
            if mood is Mood.HANGS:
                with silent() as port:
                    yield visit(port, [], total_timeout=SECONDS)
            elif mood in (Mood.DRIPS, Mood.BREAKS):
                with misbehaving(drip if mood is Mood.DRIPS else break_off) as port:
                    yield visit(port, [], total_timeout=SECONDS)
            else:
                with serving_smtp(offers=("PLAIN",), answers=ANSWERS[mood]) as server:
                    yield visit(server.port, server.received)


def visit(port: int, received: list[Received], **limits: float) -> Visit:
    login = {"user_name": USER, "password": CANARY}
    options: dict[str, Any] = {"to": TO, "from": "celery@example.com", "via": "smtp"}
    options["via_options"] = {"address": "127.0.0.1", "port": port, **login, **limits}
    return Visit(
        options=options,
        count=lambda: len(received),
        texts=lambda: [text for mail in received for text in read_mail(mail)],
    )


# What was sent


def read_mail(mail: Received) -> list[tuple[Harmless, str]]:
    message = mail.message
    assert mail.recipients == [TO]
    assert len(mail.header_names) == len(set(mail.header_names))
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    plain, html = (message.get_body((kind,)).get_content() for kind in ("plain", "html"))
    return [(is_harmless_header, message["Subject"]), (is_harmless_text, plain), (is_harmless_html, html)]


def is_harmless_header(text: str) -> None:
    assert text == one_line(text, 10_000)


def is_harmless_text(text: str) -> None:
    assert not UNSAFE.search(text.replace("\r\n", "\n"))


class _Tags(HTMLParser):
    """Collects what a mail consists of, and refuses what no mail of ours has."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        for name, value in attrs:
            self.found.add(name)
            assert name not in ("href", "src") or (value or "").startswith("https://ops.test/")


def tags_of(html: str) -> set[str]:
    parser = _Tags()
    parser.feed(html)
    parser.close()
    return parser.found


OURS = tags_of(write_html(write_digest(samples.failing(3))))


def is_harmless_html(text: str) -> None:
    is_harmless_text(text)
    assert tags_of(text) <= OURS


EMAIL = EmailChannel()

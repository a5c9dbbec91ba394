"""Email: a notification becomes a mail, by the mailer and with its options."""

from __future__ import annotations

import dataclasses
import logging
import re
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_batches_notify.errors import ConfigurationError, InvalidCallback, NotificationFailed
from celery_batches_notify.model import Event, Notification
from celery_batches_notify.notifiers.base import Notifier, build_notifier, merge_options, refuse_secrets
from celery_batches_notify.notifiers.email import Email
from celery_batches_notify.notifiers.mailer import Letter
from tests.support.http_server import Authority, silent
from tests.support.mail_shapes import ADDRESS_TRICKS, INJECTIONS, shape
from tests.support.samples import BID, failing, failure, hostile, notification
from tests.support.smtp_server import PASSWORD, USER, SmtpServer

Serve = Callable[..., SmtpServer]
HEADERS = {
    *("MIME-Version", "Content-Type", "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
    *("References", "In-Reply-To"),
}


def email(port: int, **options: Any) -> Email:
    given = {"to": "ops@example.com", "from": "celery@example.com", "via": "smtp", **options}
    given["via_options"] = {"address": "127.0.0.1", "port": port, **given.get("via_options", {})}
    return build_notifier(Email, given)  # type: ignore[return-value, type-abstract]


def test_it_is_a_notifier() -> None:
    assert isinstance(Email(to="ops@example.com"), Notifier)


def test_a_notification_arrives_as_a_mail_with_two_bodies(smtp_server: Serve) -> None:
    server = smtp_server()

    said = email(server.port).send(failing(2, total=50))

    mail = server.only.message
    assert said == "accepted for 1 of 1 recipients"
    assert (server.only.sender, server.only.recipients) == ("celery@example.com", ["ops@example.com"])
    assert set(server.only.header_names) == HEADERS
    assert mail["Subject"] == "✗ 1 of 50 failed for good, 1 will be retried: Import rows"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert shape(mail) == {"alternative": ["text/plain", "text/html"]}
    for kind in ("plain", "html"):
        assert "2 × ValueError in import_row" in mail.get_body((kind,)).get_content()


def test_the_message_id_is_the_notifications_and_the_same_on_each_attempt(smtp_server: Serve) -> None:
    server = smtp_server()

    email(server.port).send(notification())
    email(server.port).send(replace(notification(), attempt=2))

    ids = [received.message["Message-ID"] for received in server.received]
    assert ids == [f"<cb_{BID}_success_0@example.com>"] * 2


def test_without_a_from_the_message_id_is_still_the_same_on_every_machine(outbox: list[Letter]) -> None:
    Email(to="Ops <ops@corp.test>", via="test").send(notification())

    assert outbox[0].message_id == f"<cb_{BID}_success_0@corp.test>"


def test_all_options_of_a_mail_reach_it(outbox: list[Letter]) -> None:
    Email(
        to=["a@x.test", "b@x.test"],
        cc="c@x.test",
        bcc=["d@x.test"],
        from_="Jobs <jobs@x.test>",
        reply_to="help@x.test",
        sender="robot@x.test",
        subject="Nightly import",
        headers={"List-Id": "<jobs.x.test>", "auto-submitted": "auto-notified"},
        via="test",
    ).send(notification())

    (letter,) = outbox
    assert letter.recipients == ("a@x.test", "b@x.test", "c@x.test", "d@x.test")
    assert letter.sender == "robot@x.test"
    assert {
        name: letter.message[name] for name in ("To", "Cc", "From", "Reply-To", "Subject", "List-Id")
    } == {
        "To": "a@x.test, b@x.test",
        "Cc": "c@x.test",
        "From": "Jobs <jobs@x.test>",
        "Reply-To": "help@x.test",
        "Subject": "Nightly import",
        "List-Id": "<jobs.x.test>",
    }
    assert letter.message.get_all("Auto-Submitted") == ["auto-notified"]


def test_the_envelope_can_be_set_apart(outbox: list[Letter]) -> None:
    Email(to="a@x.test", smtp_envelope_to="archive@x.test", via="test").send(notification())

    assert outbox[0].recipients == ("archive@x.test",)


def test_a_server_with_tls_and_a_login_is_entered(smtp_server: Serve, mail_authority: Authority) -> None:
    server = smtp_server(starttls=mail_authority.issue("127.0.0.1"), offers=("LOGIN",))
    login = {"user_name": USER, "password": PASSWORD, "authentication": "login", "enable_starttls": True}

    email(server.port, via_options={"ca_file": mail_authority.file, **login}).send(notification())

    assert server.only.tls and server.only.mechanism == "LOGIN"


def test_sendmail_takes_it(program: Path) -> None:
    Email(to="a@x.test", via="sendmail", via_options={"location": str(program)}).send(notification())

    assert f"Message-ID: <cb_{BID}_success_0@x.test>" in (program.parent / "mail").read_text()


def test_a_recipient_refused_for_good_is_named_and_not_retried(
    smtp_server: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = smtp_server(answers={"b@x.test": ["550 no such user"], "c@x.test": ["553 no"]})

    with caplog.at_level(logging.WARNING, logger="celery_batches_notify"):
        said = email(server.port, to=["a@x.test", "b@x.test", "c@x.test"]).send(notification())

    assert said == (
        "accepted for 1 of 3 recipients; refused for good: b@x.test (550 no such user), c@x.test (553 no); "
        "accepted: a@x.test"
    )
    (record,) = caplog.records
    assert record.getMessage() == f"batch {BID} 'success' by email: refused for 2 of its recipients"
    assert (record.batches_refused, record.batches_codes) == (2, [550, 553])
    assert "x.test" not in str(vars(record))


def send_in_vain(notifier: Email, about: Notification) -> NotificationFailed:
    with pytest.raises(NotificationFailed) as caught:
        notifier.send(about)
    assert not caught.value.permanent
    return caught.value


def test_only_recipients_refused_for_now_get_the_next_attempt(smtp_server: Serve) -> None:
    busy = {"b@x.test": ["450 greylisted", "250 OK"], "c@x.test": ["452 full", "452 full", "250 OK"]}
    server = smtp_server(answers={**busy, "d@x.test": ["550 no such user"]})
    notifier = email(server.port, to=["a@x.test", "b@x.test"], cc="c@x.test", bcc="d@x.test")

    first = send_in_vain(notifier, notification())
    second = send_in_vain(notifier, replace(notification(), attempt=2, owed=first.owed))
    said = notifier.send(replace(notification(), attempt=3, owed=second.owed))

    assert str(first) == (
        "accepted for 1 of 4 recipients; refused for now: b@x.test (450 greylisted), c@x.test (452 full); "
        "refused for good: d@x.test (550 no such user); accepted: a@x.test"
    )
    assert (str(second), second.status_code) == (
        "accepted for 1 of 2 recipients; refused for now: c@x.test (452 full); accepted: b@x.test",
        452,
    )
    assert said == "accepted for 1 of 1 recipients"
    assert [mail.recipients for mail in server.received] == [["a@x.test"], ["b@x.test"], ["c@x.test"]]
    headers = [
        (mail.message["To"], mail.message["Cc"], mail.message["Message-ID"]) for mail in server.received
    ]
    assert headers == [("a@x.test, b@x.test", "c@x.test", f"<cb_{BID}_success_0@example.com>")] * 3


def test_of_recipients_that_are_all_refused_those_for_good_are_not_asked_again(smtp_server: Serve) -> None:
    server = smtp_server(answers={"a@x.test": ["550 no such user"], "b@x.test": ["450 greylisted", "250 OK"]})
    notifier = email(server.port, to=["a@x.test", "b@x.test"])

    first = send_in_vain(notifier, notification())
    notifier.send(replace(notification(), attempt=2, owed=first.owed))

    assert "accepted for 0 of 2 recipients; refused for now: b@x.test" in str(first)
    assert server.only.recipients == ["b@x.test"]


def test_a_broken_connection_leaves_the_mail_owed_to_the_same(smtp_server: Serve) -> None:
    server = smtp_server(answers={"b@x.test": ["450 greylisted"], "DATA": ["250 OK", "451 try later"]})
    notifier = email(server.port, to=["a@x.test", "b@x.test"])
    first = send_in_vain(notifier, notification())

    with silent() as port:
        broken = send_in_vain(email(port, to="b@x.test", via_options={"read_timeout": 0.2}), notification())

    assert first.owed and not broken.owed


def test_a_mail_that_no_recipient_waits_for_is_done(smtp_server: Serve) -> None:
    server = smtp_server(answers={"b@x.test": ["450 greylisted"]})
    first = send_in_vain(email(server.port, to=["a@x.test", "b@x.test"]), notification())

    said = email(server.port, to="a@x.test").send(replace(notification(), owed=first.owed))

    assert said == "none of the recipients still waits for it"
    assert server.only.recipients == ["a@x.test"]


@pytest.mark.parametrize(
    ("reply", "permanent"), [("550 no such user", True), ("450 greylisted", False), ("421 closing", False)]
)
def test_a_mail_that_nobody_got_says_whether_to_try_again(
    smtp_server: Serve, reply: str, permanent: bool
) -> None:
    server = smtp_server(answers={"ops@example.com": [reply]})

    with pytest.raises(NotificationFailed) as caught:
        email(server.port).send(notification())

    assert caught.value.permanent is permanent
    assert caught.value.status_code == int(reply[:3])


def test_a_server_that_is_silent_can_be_tried_again() -> None:
    with silent() as port, pytest.raises(NotificationFailed) as caught:
        email(port, via_options={"read_timeout": 0.2}).send(notification())

    assert not caught.value.permanent


def test_the_password_is_nowhere_but_in_the_option(smtp_server: Serve) -> None:
    server = smtp_server(offers=("PLAIN",))
    notifier = email(server.port, via_options={"user_name": USER, "password": "SENTINEL wrong"})

    with pytest.raises(NotificationFailed) as caught:
        notifier.send(notification())

    assert "SENTINEL" not in repr(notifier)
    assert "SENTINEL" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("text", [*INJECTIONS, *ADDRESS_TRICKS])
def test_no_text_of_a_batch_adds_a_header_or_a_recipient(smtp_server: Serve, text: str) -> None:
    server = smtp_server()

    email(server.port).send(hostile(text))

    assert server.only.recipients == ["ops@example.com"]
    assert set(server.only.header_names) == HEADERS and len(server.only.header_names) == len(HEADERS)
    assert shape(server.only.message) == {"alternative": ["text/plain", "text/html"]}


def test_a_text_that_names_a_file_is_not_attached(outbox: list[Letter], tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("SENTINEL")
    bad = failure(task=str(path), error_class=str(path), error_message=str(path))

    Email(to="a@x.test", via="test").send(failing(1, description=str(path), failure_info=(bad,)))

    assert b"SENTINEL" not in outbox[0].as_bytes()


@pytest.mark.parametrize("event", list(Event))
def test_every_event_has_its_mail(outbox: list[Letter], event: Event) -> None:
    Email(to="a@x.test", via="test").send(notification(event))

    assert outbox[0].message["Subject"] == notification(event).subject


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "to"),
        ({"to": ""}, "to is required"),
        ({"to": []}, "to is required"),
        ({"to": None}, "to is required"),
        ({"to": " "}, "to is required"),
        ({"to": [""]}, "to is required"),
        ({"to": ["env:T_EMPTY"]}, "to is required"),
        ({"to": "a@x.test", "smtp_envelope_to": ["env:T_EMPTY"]}, "smtp_envelope_to holds no address"),
        ({"to": "ops"}, "user@host"),
        ({"to": "a@x.test\nBcc: b@x.test"}, "line break"),
        ({"to": "a@x.test", "from": "me"}, "from: 'me'"),
        ({"to": "a@x.test", "subject": "a\nb"}, "one line"),
        ({"to": "a@x.test", "headers": {"To": "b@x.test"}}, "use to"),
        ({"to": "a@x.test", "via": "pigeon"}, "smtp, sendmail, test"),
        ({"to": "a@x.test", "via": "smtp", "via_options": {"adress": "x"}}, "adress"),
        ({"to": "a@x.test", "via": "smtp", "via_options": {"port": "x"}}, "port"),
        ({"to": "a@x.test", "via": "smtp", "via_options": "smtp://x"}, "mapping"),
        ({"to": "a@x.test", "via": "smtp", "via_options": {"openssl_verify_mode": "none"}}, "ca_file"),
        ({"to": "a@x.test", "bodi": "x"}, "there is no option 'bodi'"),
    ],
)
def test_wrong_options_are_configuration_errors_with_the_fix(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str
) -> None:
    monkeypatch.setenv("T_EMPTY", "")  # without an address a mail must not count as delivered

    with pytest.raises(ConfigurationError, match=re.escape(said)) as caught:
        build_notifier(Email, options)  # type: ignore[type-abstract]

    assert str(caught.value).startswith("email: ")


def test_references_are_left_to_the_process_that_sends(
    monkeypatch: pytest.MonkeyPatch, outbox: list[Letter]
) -> None:
    names = ("to", "port", "user_name", "password", "starttls")
    options = {
        "to": ["env:T_TO"],
        "from": "env:T_FROM",
        "via": "test",
        "via_options": {
            name: f"env:T_{name.upper()}" for name in ("port", "user_name", "password", "authentication")
        },
    }
    build_notifier(Email, options, reveal=False)  # type: ignore[type-abstract]
    build_notifier(Email, options | {"via": "smtp"}, reveal=False)  # type: ignore[type-abstract]
    build_notifier(Email, options | {"via": "env:T_VIA"}, reveal=False)  # type: ignore[type-abstract]
    for name in (*names, "from", "authentication"):
        monkeypatch.setenv(f"T_{name.upper()}", f"{name}@x.test")

    build_notifier(Email, options).send(notification())  # type: ignore[type-abstract]

    assert outbox[0].recipients == ("to@x.test",) and outbox[0].sender == "from@x.test"


def test_from_is_one_option_whichever_way_it_is_written() -> None:
    merged = merge_options(Email, {"to": "a@x.test", "from": "b@x.test"}, {"from_": "c@x.test"})  # type: ignore[type-abstract]

    assert merged == {"to": "a@x.test", "from_": "c@x.test"}


def test_a_callbacks_own_server_does_not_get_the_configured_login() -> None:
    configured = {
        "to": "a@x.test",
        "via_options": {"address": "smtp.x.test", "user_name": "u", "password": "p"},
    }

    merged = merge_options(Email, configured, {"via_options": {"address": "evil.test"}})  # type: ignore[type-abstract]

    assert merged["via_options"] == {"address": "evil.test"}


@pytest.mark.parametrize(
    "via_options",
    [{"password": "x"}, {"location": "/bin/sh"}, {"arguments": "-c id"}, {"oauth2_file": "/etc/x"}],
)
def test_a_callbacks_own_options_hold_no_secret_and_choose_no_program(via_options: dict[str, str]) -> None:
    with pytest.raises(InvalidCallback, match=re.escape("via_options.")):
        refuse_secrets(Email, {"via_options": via_options})  # type: ignore[type-abstract]


def test_its_value_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Email(to="a@x.test").to = "b@x.test"  # type: ignore[misc]

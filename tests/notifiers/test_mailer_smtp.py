"""`via="smtp"`: every kind of login and TLS, and every known trap of SMTP, with real servers."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from celery_batches_notify.notifiers.deadline import DeadlinePassed
from celery_batches_notify.notifiers.mailer import MailFailed, Receipt, mail, options
from tests.support.http_server import Authority, black_hole, silent
from tests.support.mail_sending import CANARY, send, send_in_vain
from tests.support.smtp_server import PASSWORD, USER, Peer, SmtpServer, misbehaving

Serve = Callable[..., SmtpServer]


def wait_until_the_work_ends() -> None:
    for thread in threading.enumerate():
        if thread.name == "batches-notify":
            thread.join(30)
            assert not thread.is_alive()


def test_a_mail_arrives_with_its_envelope_and_as_it_was_written(smtp_server: Serve) -> None:
    server = smtp_server()
    body = "Grüße 🎉 <b> & 'so'\n.\n..dots\n\ttab \ntrailing  \nFrom here\n" + "long " * 400 + "\nend"

    receipt = mail(
        to=["Ann <a@example.com>", "b@intranet"],
        bcc="c@localhost",
        from_="Bob <bob@example.com>",
        subject="Hi",
        body=body,
        via="smtp",
        via_options={"address": "127.0.0.1", "port": str(server.port)},
    )

    assert server.only.sender == "bob@example.com"
    assert server.only.recipients == ["a@example.com", "b@intranet", "c@localhost"]
    assert receipt.accepted == ("a@example.com", "b@intranet", "c@localhost") and receipt.refused == ()
    assert server.only.message.get_content().splitlines() == body.split("\n")
    assert server.only.message["Message-ID"] == receipt.message_id
    assert b"c@localhost" not in server.only.content


@pytest.mark.parametrize("mechanism", ["plain", "login", "cram_md5"])
def test_each_mechanism_logs_in_where_it_is_asked_for(smtp_server: Serve, mechanism: str) -> None:
    server = smtp_server(offers=("PLAIN", "LOGIN", "CRAM-MD5"))

    send(server.port, user_name=USER, password=PASSWORD, authentication=mechanism)

    assert server.only.mechanism == mechanism.upper().replace("_", "-")


@pytest.mark.parametrize("offered", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_without_a_choice_the_mechanism_is_one_the_server_offers(smtp_server: Serve, offered: str) -> None:
    server = smtp_server(offers=(offered,))

    send(server.port, user_name=USER, password=PASSWORD)

    assert server.only.mechanism == offered


@pytest.mark.parametrize("login", [{}, {"user_name": USER, "password": PASSWORD, "authentication": "none"}])
def test_no_login_is_made_without_a_name_or_with_none(smtp_server: Serve, login: dict[str, str]) -> None:
    server = smtp_server(offers=("PLAIN",))

    send(server.port, **login)

    assert server.only.mechanism is None


def test_a_name_without_a_host_is_left_alone_and_is_not_the_sender(smtp_server: Serve) -> None:
    server = smtp_server(offers=("PLAIN",))

    failed = send_in_vain(server.port, user_name="apikey", password=PASSWORD)

    assert failed.status_code == 535 and server.received == []


@pytest.mark.parametrize("mechanism", ["plain", "login", "cram_md5"])
def test_a_wrong_password_is_535_and_can_be_mended(smtp_server: Serve, mechanism: str) -> None:
    server = smtp_server(offers=("PLAIN", "LOGIN", "CRAM-MD5"))

    failed = send_in_vain(server.port, user_name=USER, password=f"{CANARY} wrong", authentication=mechanism)

    assert (failed.status_code, failed.permanent) == (535, False)


def test_a_mechanism_that_is_not_offered_is_named_with_those_that_are(smtp_server: Serve) -> None:
    server = smtp_server(offers=("LOGIN",))

    failed = send_in_vain(server.port, user_name=USER, password=PASSWORD, authentication="cram_md5")

    assert "LOGIN, not by CRAM-MD5" in str(failed) and not failed.permanent


def test_a_server_that_repeats_the_login_does_not_bring_the_password_into_errors() -> None:
    def behave(peer: Peer) -> None:
        peer.say("220 mx.test")
        while line := peer.hear():
            words = (
                "250-mx.test\r\n250 AUTH PLAIN LOGIN" if line.startswith("ehlo") else f"500 what is {line}?"
            )
            peer.say(words)

    with misbehaving(behave) as port:
        failed = send_in_vain(port, user_name=USER, password=PASSWORD, authentication="plain")

    assert "…" in str(failed)


def test_challenges_that_are_not_base64_fail_cleanly() -> None:
    def behave(peer: Peer) -> None:
        peer.say("220 mx.test")
        while line := peer.hear():
            peer.say("250-mx.test\r\n250 AUTH CRAM-MD5" if line.startswith("ehlo") else "334 x")

    with misbehaving(behave) as port:
        failed = send_in_vain(port, user_name=USER, password=PASSWORD)

    assert "not base64" in str(failed)


@pytest.mark.parametrize("mode", [{}, {"enable_starttls": "auto"}, {"enable_starttls_auto": True}])
def test_starttls_is_taken_where_it_is_offered(
    smtp_server: Serve, mail_authority: Authority, mode: dict[str, Any]
) -> None:
    server = smtp_server(starttls=mail_authority.issue("127.0.0.1"), offers=("PLAIN",))

    send(server.port, ca_file=mail_authority.file, user_name=USER, password=PASSWORD, **mode)

    assert server.only.tls and server.only.mechanism == "PLAIN"


@pytest.mark.parametrize("mode", [{}, {"enable_starttls": "auto"}, {"enable_starttls": False}])
def test_without_an_offer_of_starttls_a_mail_goes_in_clear(smtp_server: Serve, mode: dict[str, Any]) -> None:
    server = smtp_server()

    send(server.port, **mode)

    assert not server.only.tls


@pytest.mark.parametrize("mode", [{"enable_starttls": False}, {"enable_starttls_auto": False}])
def test_starttls_can_be_switched_off(
    smtp_server: Serve, mail_authority: Authority, mode: dict[str, Any]
) -> None:
    server = smtp_server(starttls=mail_authority.issue("127.0.0.1"))

    send(server.port, **mode)

    assert not server.only.tls


@pytest.mark.parametrize("mode", [True, "always"])
def test_required_starttls_that_is_stripped_stops_the_mail(smtp_server: Serve, mode: object) -> None:
    server = smtp_server()

    failed = send_in_vain(server.port, enable_starttls=mode)

    assert "STARTTLS" in str(failed) and not failed.permanent and server.received == []


def test_a_password_does_not_travel_in_clear_unless_that_is_asked_for(smtp_server: Serve) -> None:
    server = smtp_server(offers=("PLAIN",))
    login = {"address": "127.1", "user_name": USER, "password": PASSWORD}  # not known to be this machine

    assert "in clear" in str(send_in_vain(server.port, **login))
    assert server.received == []

    send(server.port, **login, enable_starttls=False)
    assert server.only.mechanism == "PLAIN"


@pytest.mark.parametrize("password", ["password", "server", "offers"])
def test_our_own_words_stay_readable_whatever_the_password_is(smtp_server: Serve, password: str) -> None:
    clear = smtp_server(offers=("PLAIN",))
    odd = smtp_server(offers=("XOAUTH2",))
    login = {"user_name": USER, "password": password}

    unsafe = send_in_vain(clear.port, address="127.1", **login)
    unknown = send_in_vain(odd.port, **login)

    assert "the server offers no STARTTLS, so the password would travel in clear" in str(unsafe)
    assert "the server offers to log in by XOAUTH2, not by PLAIN or LOGIN or CRAM-MD5" in str(unknown)


@pytest.mark.parametrize("mode", [{}, {"enable_starttls": True}, {"ssl": True}, {"tls": True}])
def test_certificates_of_an_unknown_authority_are_refused(
    smtp_server: Serve, mail_authority: Authority, mode: dict[str, Any]
) -> None:
    context = mail_authority.issue("127.0.0.1")
    server = smtp_server(**{"implicit_tls" if mode.keys() & {"ssl", "tls"} else "starttls": context})

    failed = send_in_vain(server.port, **mode)

    assert "not trusted" in str(failed) and "ca_file" in str(failed) and not failed.permanent
    assert server.received == []


@pytest.mark.parametrize("mode", [{}, {"ssl": True}])
def test_certificates_for_another_host_are_refused(
    smtp_server: Serve, mail_authority: Authority, mode: dict[str, Any]
) -> None:
    context = mail_authority.issue("other.example.com")
    server = smtp_server(**{"implicit_tls" if mode else "starttls": context})

    failed = send_in_vain(server.port, ca_file=mail_authority.file, **mode)

    assert "not trusted" in str(failed) and server.received == []


@pytest.mark.parametrize("option", ["ssl", "tls"])
def test_implicit_tls_speaks_tls_from_the_first_byte(
    smtp_server: Serve, mail_authority: Authority, option: str
) -> None:
    server = smtp_server(implicit_tls=mail_authority.issue("127.0.0.1"), offers=("LOGIN",))

    send(server.port, ca_file=mail_authority.file, user_name=USER, password=PASSWORD, **{option: True})

    assert server.only.tls and server.only.mechanism == "LOGIN"


def test_a_ca_file_that_is_not_there_is_named() -> None:
    failed = send_in_vain(1, ca_file="/nowhere/ca.pem")

    assert "/nowhere/ca.pem" in str(failed) and not failed.permanent


def test_the_helo_domain_is_the_one_given_and_ponys_by_default(smtp_server: Serve) -> None:
    server = smtp_server()

    send(server.port)
    send(server.port, domain="worker.example.com")

    assert [mail.helo for mail in server.received] == ["localhost.localdomain", "worker.example.com"]


def test_one_refused_recipient_does_not_stop_the_others(smtp_server: Serve) -> None:
    server = smtp_server(answers={"b@example.com": ["550 5.1.1 no such user"]})

    receipt = send(server.port, to="a@example.com, b@example.com, c@example.com")

    assert receipt.accepted == ("a@example.com", "c@example.com")
    assert receipt.status_code == 250
    (refusal,) = receipt.refused
    assert (refusal.address, refusal.code, refusal.text) == ("b@example.com", 550, "5.1.1 no such user")
    assert server.only.recipients == ["a@example.com", "c@example.com"]


def test_all_recipients_refused_for_good_is_permanent(smtp_server: Serve) -> None:
    server = smtp_server(answers={"a@x.test": ["550 no"], "b@x.test": ["553 no"]})

    failed = send_in_vain(server.port, to=["a@x.test", "b@x.test"])

    assert (failed.permanent, failed.status_code) == (True, 550)
    assert [(refusal.address, refusal.code) for refusal in failed.refused] == [
        ("a@x.test", 550),
        ("b@x.test", 553),
    ]


def test_one_recipient_put_off_keeps_a_refusal_of_all_from_being_permanent(smtp_server: Serve) -> None:
    server = smtp_server(answers={"a@x.test": ["550 no"], "b@x.test": ["450 greylisted", "250 OK"]})

    failed = send_in_vain(server.port, to=["a@x.test", "b@x.test"])
    receipt = send(server.port, to=["a@x.test", "b@x.test"])

    assert (failed.permanent, failed.status_code) == (False, 450)
    assert receipt.accepted == ("b@x.test",)


@pytest.mark.parametrize(
    ("step", "reply", "permanent"),
    [
        ("MAIL", "550 5.7.1 sender not allowed", True),
        ("MAIL", "530 5.7.0 Must issue a STARTTLS command first", False),
        ("MAIL", "451 try later", False),
        ("DATA", "554 5.7.1 looks like spam", True),
        ("DATA", "552 too big", True),
        ("DATA", "452 disk full", False),
        ("a@example.com", "421 closing", False),
        ("a@example.com", "535 log in first", False),
    ],
)
def test_a_refusal_is_permanent_where_it_is_final_and_about_this_mail(
    smtp_server: Serve, step: str, reply: str, permanent: bool
) -> None:
    server = smtp_server(answers={step: [reply]})

    failed = send_in_vain(server.port)

    assert failed.permanent is permanent
    assert failed.status_code == int(reply[:3])
    assert reply[4:] in str(failed) and server.received == []


def test_a_server_that_refuses_the_connection_is_retried() -> None:
    with misbehaving(lambda peer: peer.say("554 no service here")) as port:
        failed = send_in_vain(port)

    assert (failed.permanent, failed.status_code) == (False, 554)


def test_a_drop_after_data_can_be_tried_again_and_then_carries_the_same_message_id(
    smtp_server: Serve,
) -> None:
    server = smtp_server(drop_after_data=True)
    how = {"address": "127.0.0.1", "port": server.port}

    def again() -> Receipt:
        return mail("a@example.com", body="x", message_id="cb_1@example.com", via="smtp", via_options=how)

    with pytest.raises(MailFailed) as caught:
        again()
    server.drop_after_data = False
    again()

    assert not caught.value.permanent

    assert [received.message["Message-ID"] for received in server.received] == ["<cb_1@example.com>"] * 2


def test_a_connection_that_is_refused_can_be_tried_again() -> None:
    with silent() as port:
        pass

    failed = send_in_vain(port)

    assert f"127.0.0.1:{port}" in str(failed) and not failed.permanent


def test_a_server_that_never_answers_is_left_after_the_read_timeout() -> None:
    with silent() as port:
        began = time.monotonic()
        failed = send_in_vain(port, read_timeout=0.3)

    assert time.monotonic() - began < 25  # the default is 30
    assert not failed.permanent


def test_a_host_that_does_not_let_us_in_is_left_after_the_open_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, connect = [], socket.create_connection

    def connect_noting(address: tuple[str, int], timeout: float) -> socket.socket:
        given.append(timeout)  # not how long it took: a machine may be slow
        return connect(address, timeout)

    monkeypatch.setattr(socket, "create_connection", connect_noting)
    with black_hole() as port:
        send_in_vain(port, open_timeout=0.3)

    assert given == [0.3]


@pytest.mark.parametrize(
    "behave",
    [
        lambda peer: peer.drip("2"),
        lambda peer: peer.drip("220-more\r\n"),
        lambda peer: (peer.say("220 mx.test"), peer.hear(), peer.drip("250-more\r\n")),
    ],
    ids=["a line without end", "a greeting without end", "an EHLO without end"],
)
def test_a_server_that_drips_is_left_after_the_total_timeout(behave: Callable[[Peer], None]) -> None:
    with misbehaving(behave) as port:
        began = time.monotonic()
        failed = send_in_vain(port, total_timeout=0.5)
        assert time.monotonic() - began < 30
        wait_until_the_work_ends()

    assert "0.5 s in all" in str(failed) and not failed.permanent


@pytest.mark.parametrize("goodbye", [None, "221 " + "x" * 20_000], ids=["none", "endless"])
def test_a_goodbye_that_gets_no_answer_does_not_undo_a_mail_that_was_taken(goodbye: str | None) -> None:
    replies = iter(["250 mx.test", "250 OK", "250 OK", "354 go on", "250 taken"])

    def behave(peer: Peer) -> None:
        peer.say("220 mx.test")
        for reply in replies:
            peer.hear()
            peer.say(reply)
            while reply.startswith("354") and peer.hear() != ".":
                pass
            if reply.startswith("354"):
                peer.say(next(replies))
        if goodbye:
            peer.say(goodbye)
        else:
            peer.closing.wait()

    with misbehaving(behave) as port:
        receipt = send(port, read_timeout=3)

    assert receipt.accepted == ("a@example.com",)


def test_a_goodbye_that_outlasts_the_total_time_does_not_undo_it_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaving = threading.Event()

    def behave(peer: Peer) -> None:
        peer.say("220 mx.test")
        for reply in ("250 mx.test", "250 OK", "250 OK", "354 go on"):
            peer.hear()
            peer.say(reply)
        while peer.hear() != ".":
            pass
        peer.say("250 taken")
        peer.hear()
        leaving.set()
        peer.closing.wait()

    def run_until_it_leaves(_: float, work: Callable[[], object], abort: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        assert leaving.wait(60)
        abort()
        thread.join()
        raise DeadlinePassed

    monkeypatch.setattr("celery_batches_notify.notifiers.mailer.smtp.run_within", run_until_it_leaves)
    with misbehaving(behave) as port:
        receipt = send(port)

    assert receipt.accepted == ("a@example.com",)


def test_the_server_is_greeted_and_left_in_good_manners(
    smtp_server: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = smtp_server()
    with caplog.at_level(logging.DEBUG, logger="mail.log"):
        send(server.port)

    assert any("quit" in record.getMessage() for record in caplog.records)


def test_neither_standard_error_nor_any_log_hears_of_it(
    smtp_server: Serve, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    server = smtp_server(offers=("PLAIN",))
    with caplog.at_level(logging.DEBUG):
        send(server.port, user_name=USER, password=PASSWORD)
        send_in_vain(server.port, user_name=USER, password=f"{CANARY} wrong")

    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("mail.", "asyncio"))]
    assert ours == []
    assert capfd.readouterr() == ("", "")


def test_the_password_is_in_no_repr() -> None:
    read = options.read_smtp_options({"user_name": USER, "password": PASSWORD})

    assert read.password == PASSWORD and CANARY not in repr(read)

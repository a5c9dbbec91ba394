"""`mail`: its text and its recipients, which hostile text cannot change."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_batches_notify.notifiers import mailer
from celery_batches_notify.notifiers.mailer import Letter, mail
from tests.support.mail_shapes import ADDRESS_TRICKS, INJECTIONS, shape
from tests.support.smtp_server import SmtpServer

Outbox = list[Letter]
PLAIN_HEADERS = [
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    *("From", "To", "Subject", "Date", "Message-ID"),
]
ANY_TEXT = st.text(st.characters(exclude_categories=()))


def send(**options: Any) -> Letter:
    mail(**{"to": "a@example.com", "from_": "me@example.com", "via": "test", **options})
    return mailer.outbox[-1]


def read(letter: Letter) -> EmailMessage:
    return message_from_bytes(letter.as_bytes(), policy=default)  # type: ignore[return-value]


def head_of(letter: Letter) -> dict[str, str]:
    """The raw headers, unfolded, in their order."""
    head = letter.as_bytes().partition(b"\r\n\r\n")[0].decode("ascii")
    unfolded = re.sub(r"\r\n(?=[ \t])", "", head)
    return dict(line.split(": ", 1) for line in unfolded.split("\r\n"))


def test_a_text_alone_is_a_plain_mail(outbox: Outbox) -> None:
    letter = send(subject="Hi", body="Ready.\n")

    assert sorted(head_of(letter)) == sorted(PLAIN_HEADERS)
    assert shape(read(letter)) == "text/plain"
    assert read(letter).get_content() == "Ready.\r\n"
    assert letter.sender == "me@example.com" and letter.recipients == ("a@example.com",)


def test_html_alone_is_an_html_mail(outbox: Outbox) -> None:
    assert shape(read(send(html_body="<p>Ready.</p>"))) == "text/html"


def test_text_and_html_are_alternatives_the_text_first(outbox: Outbox) -> None:
    assert shape(read(send(body="Ready.", html_body="<p>Ready.</p>"))) == {
        "alternative": ["text/plain", "text/html"]
    }


def test_files_stand_beside_the_alternatives(outbox: Outbox) -> None:
    files = {
        "rows.csv": "a;é\n",
        "logo.png": b"\x89PNG",
        "notes": b"?",
        "old.eml": b"From: x",
        "x.tar.gz": b"",
    }
    message = read(send(body="Ready.", html_body="<p>Ready.</p>", attachments=files))

    assert shape(message) == {
        "mixed": [
            {"alternative": ["text/plain", "text/html"]},
            *("text/csv", "image/png", "application/octet-stream"),
            *("application/octet-stream", "application/octet-stream"),
        ]
    }
    sent = {part.get_filename(): part.get_payload(decode=True) for part in message.iter_attachments()}
    assert sent == {name: data if isinstance(data, bytes) else data.encode() for name, data in files.items()}
    assert next(message.iter_attachments()).get_content() == "a;é\n"


@pytest.mark.parametrize(
    "name", ["räksmörgås 🎉.csv", 'a"b;c.csv', "a'b%.csv", "a\\b.csv", "x" * 251 + ".csv", "é" * 127]
)
def test_any_file_name_on_one_line_arrives(outbox: Outbox, name: str) -> None:
    (part,) = read(send(attachments={name: "1"})).iter_attachments()

    assert part.get_filename() == name


def test_a_text_that_names_a_file_is_sent_as_a_text(outbox: Outbox, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("SENTINEL")

    letter = send(subject=str(path), body=str(path), html_body=str(path), attachments={str(path): str(path)})

    assert b"SENTINEL" not in letter.as_bytes()
    assert read(letter).get_body(("plain",)).get_content().strip() == str(path)


def test_an_empty_mail_may_be_sent(outbox: Outbox) -> None:
    assert read(send()).get_content().strip() == ""


@given(text=ANY_TEXT.map(lambda text: text.encode("utf-8", "replace").decode()))
def test_any_text_arrives_as_it_was_written(text: str) -> None:
    letter = send(body=text, html_body=text)
    mailer.outbox.clear()

    for part in read(letter).iter_parts():
        arrived = part.get_payload(decode=True).decode()
        assert arrived.removesuffix("\r\n") == re.sub("\r\n|\r|\n", "\r\n", text).removesuffix("\r\n")


@given(text=ANY_TEXT.map(lambda text: text.encode("utf-8", "replace").decode()))
def test_a_mail_travels_in_seven_bits_with_short_lines_ended_by_crlf(text: str) -> None:
    subject = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]", "", text)
    letter = send(subject=subject, body=text, attachments={"a": text})
    mailer.outbox.clear()

    sent = letter.as_bytes()
    assert sent.isascii() and b"\0" not in sent
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", sent)
    assert max(map(len, sent.split(b"\r\n"))) <= 998


@given(
    text=ANY_TEXT.filter(lambda text: not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text))
)
def test_any_subject_on_one_line_arrives_as_it_was_written(text: str) -> None:
    letter = send(subject=text)
    mailer.outbox.clear()

    assert letter.message["Subject"] == text
    assert str(make_header(decode_header(head_of(letter)["Subject"]))).split() == text.split()


PLACES = {
    "subject": lambda x: {"subject": x},
    "from name": lambda x: {"from_": f"{x} <me@example.com>"},
    "from quoted": lambda x: {"from_": f'"{x}" <me@example.com>'},
    "to name": lambda x: {"to": [f"{x} <a@example.com>"]},
    "to quoted": lambda x: {"to": [f'"{x}" <a@example.com>']},
    "reply_to": lambda x: {"reply_to": f"{x} <a@example.com>"},
    "sender": lambda x: {"sender": f"{x} <me@example.com>"},
    "message_id": lambda x: {"message_id": x},
    "message_id part": lambda x: {"message_id": f"<{x}@example.com>"},
    "header": lambda x: {"headers": {"X-Own": x}},
    "header name": lambda x: {"headers": {x: "own"}},
    "file": lambda x: {"attachments": {x: "data"}},
    "part header": lambda x: {"body_part_header": {"X-Own": x}},
    "charset": lambda x: {"charset": x},
}
ADDRESS_PLACES = {
    "from": lambda x: {"from_": x},
    "to": lambda x: {"to": x},
    "to user": lambda x: {"to": f"{x}@example.com"},
    "to host": lambda x: {"to": f"a@{x}"},
    "cc": lambda x: {"cc": x},
    "bcc": lambda x: {"bcc": x},
    "envelope": lambda x: {"smtp_envelope_to": x},
}
ADDED = {
    "cc": "Cc",
    "reply_to": "Reply-To",
    "sender": "Sender",
    "headers": "X-Own",
    "body_part_header": "X-Own",
}


@pytest.mark.parametrize("payload", [*INJECTIONS, *ADDRESS_TRICKS])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_nothing_adds_a_header_a_recipient_or_a_body(outbox: Outbox, place: Any, payload: str) -> None:
    check_that_nothing_is_added(place(payload))


@pytest.mark.parametrize("payload", INJECTIONS)
@pytest.mark.parametrize("place", ADDRESS_PLACES.values(), ids=ADDRESS_PLACES)
def test_an_address_adds_neither_a_header_nor_another_recipient(
    outbox: Outbox, place: Any, payload: str
) -> None:
    check_that_nothing_is_added(place(payload))


def check_that_nothing_is_added(options: dict[str, Any]) -> None:
    try:
        letter = send(body="Ready.", **options)
    except ValueError:  # the other way to be safe
        assert mailer.outbox == []
        return
    assert max(map(len, letter.as_bytes().split(b"\r\n"))) <= 998
    message = read(letter)
    names = {name.title() for name in head_of(letter)} - {name.title() for name in PLAIN_HEADERS}
    assert names <= {ADDED.get(option) for option in options}
    assert len(letter.recipients) == 1 and "evil@evil.test" not in letter.recipients
    assert message.get_body(("plain",)).get_content().strip() == "Ready."
    contents = [part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()]
    assert set(contents) <= {b"Ready.\r\n", b"data"}


@pytest.mark.parametrize("text", [text for text in INJECTIONS if "=?" in text and "\n" not in text])
def test_a_text_that_looks_encoded_is_shown_as_it_was_written(outbox: Outbox, text: str) -> None:
    quoted = text.replace('"', "'")
    letter = send(subject=text, to=f'"{quoted}" <a@example.com>')

    assert text not in head_of(letter)["Subject"] and quoted not in head_of(letter)["To"]
    assert str(make_header(decode_header(head_of(letter)["Subject"]))).split() == text.split()


def test_names_beyond_ascii_and_in_quotes_are_written_so_that_readers_show_them(outbox: Outbox) -> None:
    letter = send(to=["Jürgen Groß <a@example.com>", '"Doe, \\"Jane\\"" <b@example.com>', "c@bücher.example"])

    parsed = read(letter)["To"].addresses
    assert [(one.display_name, one.addr_spec) for one in parsed] == [
        ("Jürgen Groß", "a@example.com"),
        ('Doe, "Jane"', "b@example.com"),
        ("", "c@xn--bcher-kva.example"),
    ]


@pytest.mark.parametrize(
    ("written", "wire"),
    [
        ("a@faß.example", "a@xn--fa-hia.example"),
        ("a@Βόλος.example", "a@xn--nxasmm1c.example"),
        ("a@BÜCHER。example", "a@xn--bcher-kva.example"),
    ],
)
def test_a_mail_goes_to_the_domain_that_is_written_and_to_no_look_alike(
    outbox: Outbox, written: str, wire: str
) -> None:
    assert send(to=written).recipients == (wire,)


def test_bcc_is_in_the_envelope_only(outbox: Outbox) -> None:
    letter = send(cc="b@example.com", bcc=["Cee <c@example.com>", "a@example.com"])

    assert letter.recipients == ("a@example.com", "b@example.com", "c@example.com")
    assert b"c@example.com" not in letter.as_bytes() and letter.message["Cc"] == "b@example.com"


def test_the_envelope_can_be_other_than_the_headers_say(outbox: Outbox) -> None:
    letter = send(
        bcc="b@example.com", smtp_envelope_to="archive@example.com", sender="Robot <robot@example.com>"
    )

    assert letter.recipients == ("archive@example.com",)
    assert letter.sender == "robot@example.com"
    assert letter.message["Sender"] == "Robot <robot@example.com>"
    assert letter.message["From"] == "me@example.com"


def test_from_is_accepted_under_its_own_name(outbox: Outbox) -> None:
    mail(to="a@example.com", via="test", **{"from": "me@example.com"})

    assert outbox[0].message["From"] == "me@example.com"


@pytest.mark.parametrize("user_name", [None, "apikey"])
def test_by_default_celery_writes_from_this_machine(outbox: Outbox, user_name: str | None) -> None:
    mail("a@example.com", via="test", via_options={"user_name": user_name})

    assert outbox[0].sender == f"celery@{socket.gethostname()}"


def test_by_default_the_login_writes_where_it_is_an_address(outbox: Outbox) -> None:
    mail("a@example.com", via="test", via_options={"user_name": "me@gmail.com"})

    assert outbox[0].sender == "me@gmail.com"


def test_mails_with_one_subject_have_ids_of_their_own(outbox: Outbox) -> None:
    assert send(subject="Hi").message_id != send(subject="Hi").message_id


@pytest.mark.parametrize("written", ["cb_1@example.com", "<cb_1@example.com>"])
def test_an_id_that_is_given_is_kept(outbox: Outbox, written: str) -> None:
    receipt = mail("a@example.com", message_id=written, via="test")

    assert receipt.message_id == "<cb_1@example.com>" == outbox[0].message["Message-ID"]


def test_the_date_and_own_headers_are_written(outbox: Outbox) -> None:
    letter = send(
        date=datetime(2026, 11, 2, 10, tzinfo=UTC),
        headers={"List-Id": "<x.example.com>", "X-Word": "é"},
    )

    assert head_of(letter)["Date"] == "Mon, 02 Nov 2026 10:00:00 +0000"
    assert head_of(letter)["List-Id"] == "<x.example.com>"
    assert read(letter)["X-Word"] == "é"


def test_charsets_and_part_headers_are_written_where_ponys_users_want_them(outbox: Outbox) -> None:
    letter = send(
        body="é",
        html_body="<p>é</p>",
        charset="utf-8",
        text_part_charset="iso-8859-1",
        body_part_header={"Content-Language": "fr"},
        html_body_part_header={"Content-ID": "<html@x>"},
    )

    text, html = read(letter).iter_parts()
    assert text.get_content_charset() == "iso-8859-1" and text.get_content() == "é\r\n"
    assert text["Content-Language"] == "fr" and html["Content-ID"] == "<html@x>"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": ""}, "to is required"),
        ({"to": []}, "to is required"),
        ({"to": None}, "to is required"),
        ({"to": 5}, "to"),
        ({"to": [5]}, "5"),
        ({"to": "nobody"}, "user@host"),
        ({"to": "a@x y@z"}, "user@host"),
        ({"to": "=?utf-8?q?a=40evil.test?=@x.test"}, "user@host"),
        ({"to": "a@xn--é.test\u2100"}, "user@host"),
        ({"message_id": "a\0b@x.test"}, "Message-ID"),
        ({"to": "jürgen@example.com"}, "plain ASCII"),
        ({"to": "a@" + "x" * 300}, "user@host"),
        ({"to": "a@exa..mple.com"}, "user@host"),
        ({"to": "Doe, Jane <jane@example.com>"}, "double quotes"),
        ({"from_": "a@x, b@x"}, "sender"),
        ({"sender": "a@x, b@x"}, "one address"),
        ({"subject": None}, "Subject"),
        ({"subject": "a\nb"}, "one line"),
        ({"body": b"bytes"}, "body must be a string, got a bytes"),
        ({"body": "é", "charset": "ascii"}, "utf-8"),
        ({"body": "x", "charset": "klingon"}, "utf-8"),
        ({"body": "\ud83d"}, "body cannot be written"),
        ({"attachments": {"": b""}}, "file name"),
        ({"attachments": {"a\nb": b""}}, "file name"),
        ({"attachments": {"a": Path("/etc/passwd")}}, "must be bytes or a string"),
        ({"headers": {"Subject": "x"}}, "use subject"),
        ({"headers": {"bcc": "x@y.test"}}, "use bcc"),
        ({"headers": {"Content-Type": "x"}}, "charset"),
        ({"headers": {"X Own": "x"}}, "header name"),
        ({"headers": {"X-Own": 5}}, "5"),
        ({"headers": ["X-Own"]}, "mapping"),
        ({"body_part_header": {"Content-Transfer-Encoding": "8bit"}}, "itself"),
        ({"message_id": "no-at"}, "unique-part@domain"),
        ({"via": "carrier-pigeon"}, "smtp, sendmail, test"),
        ({"via": "smtp", "via_options": {"adress": "x"}}, "adress"),
        ({"via": "smtp", "via_options": "smtp://x"}, "mapping"),
        ({"via": "sendmail", "via_options": {"address": "x"}}, "location"),
        ({"subjekt": "x"}, "subjekt"),
    ],
)
def test_wrong_arguments_are_refused_with_the_fix(outbox: Outbox, options: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(said)):
        send(**options)

    assert outbox == []


def test_without_a_way_out_it_goes_to_the_address_that_is_given(
    smtp_server: Callable[..., SmtpServer], program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    server = smtp_server()

    mail("a@example.com", from_="me@example.com", via_options={"address": "127.0.0.1", "port": server.port})

    assert server.only.recipients == ["a@example.com"]


def test_without_any_hint_it_goes_by_this_machines_sendmail(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")

    mail("a@example.com", from_="me@example.com")

    assert (program.parent / "arguments").read_text().split()[-1] == "a@example.com"


def test_without_sendmail_it_goes_to_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    # a mock, because this machine may have a sendmail; port 1, because it may have a server
    monkeypatch.setattr("celery_batches_notify.notifiers.mailer.sendmail.find_sendmail", lambda: None)

    with pytest.raises(mailer.MailFailed, match="localhost:1:"):
        mail("a@example.com", via_options={"port": 1})


def test_importing_the_mailer_loads_neither_yagmail_nor_a_client() -> None:
    code = (
        "import sys, celery_batches_notify.notifiers.email, celery_batches_notify.notifiers.mailer\n"
        "print(*sorted({'yagmail', 'smtplib', 'requests', 'premailer'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == ""

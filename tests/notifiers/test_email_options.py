"""Every option of Pony, from the configuration and from `on()`, and the fields of the batch in texts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, ConfigurationError, InvalidCallback, NotificationFailed
from celery_batches_notify.model import Event, Origin
from celery_batches_notify.notifiers.base import build_notifier
from celery_batches_notify.notifiers.email import Email
from celery_batches_notify.notifiers.mailer import Letter
from celery_batches_notify.notifiers.mailer.header import is_one_line
from celery_batches_notify.notifiers.templates import FIELDS, fields_of, fill_header, fill_html, fill_text
from tests.support.mail_shapes import shape
from tests.support.samples import BID, CREATED_AT, HOSTILE, failing, failure, hostile, notification

TO = {"to": "a@x.test", "from": "c@x.test", "via": "test"}


@pytest.fixture
def send(make_app: Callable[..., Celery], outbox: list[Letter]) -> Callable[..., Letter]:
    """Send a mail through a batch, with options of `on()` over configured ones."""

    def run(own: dict[str, Any] | None = None, /, **configured: Any) -> Letter:
        app = make_app(batches_notifications={"email": {**TO, **configured}})
        batch = Batch("Import <rows>", app=app).on("complete", "email", **(own or {}))
        batch.seal()
        outbox.clear()
        app._batches_extension.engine.attempts.run(batch.bid, "complete:0")
        assert [line.outcome for line in batch.deliveries()] == ["delivered"]
        return outbox[0]

    return run


@pytest.fixture(params=["configured", "on()"])
def given(request: pytest.FixtureRequest, send: Callable[..., Letter]) -> Callable[..., Letter]:
    """Send a mail with options of either kind."""
    if request.param == "configured":
        return lambda **options: send({}, **options)
    return lambda **options: send(options)


def received(letter: Letter) -> EmailMessage:
    """The mail as the reader's program parses it."""
    return message_from_bytes(letter.as_bytes(), policy=default)  # type: ignore[return-value]


def content(letter: Letter, kind: str | None = None) -> str:
    part = received(letter).get_body((kind,)) if kind else received(letter)
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n").rstrip()


# -- each option --------------------------------------------------------------------------------------


def test_a_body_of_ones_own_is_the_whole_mail(given: Callable[..., Letter]) -> None:
    letter = given(body="Dear ops, ${sentence}.")
    assert letter.message.get_content_type() == "text/plain"
    assert content(letter) == "Dear ops, There was nothing to do."


def test_an_html_of_ones_own_has_the_usual_text_beside_it(given: Callable[..., Letter]) -> None:
    letter = given(html_body="<p>${description}: ${sentence}</p>")
    assert content(letter, "html") == "<p>Import &lt;rows&gt;: There was nothing to do</p>"
    assert content(letter, "plain").startswith("✓ There was nothing to do: Import <rows>\n")


def test_both_can_be_ones_own(given: Callable[..., Letter]) -> None:
    letter = given(body="${description}", html_body="<b>${description}</b>")
    assert (content(letter, "plain"), content(letter, "html")) == (
        "Import <rows>",
        "<b>Import &lt;rows&gt;</b>",
    )


def test_a_body_can_be_html_by_its_content_type(given: Callable[..., Letter]) -> None:
    letter = given(body="<i>${description}</i>", content_type="text/html")
    assert letter.message.get_content_type() == "text/html"
    assert content(letter) == "<i>Import &lt;rows&gt;</i>"


def test_contents_are_attached(given: Callable[..., Letter]) -> None:
    letter = given(attachments={"a.txt": "Größe", "b.bin": b"\x00\xff\xfe"})
    assert shape(received(letter)) == {
        "mixed": [{"alternative": ["text/plain", "text/html"]}, "text/plain", "application/octet-stream"]
    }
    files = {part.get_filename(): part.get_content() for part in received(letter).iter_attachments()}
    assert files == {"a.txt": "Größe", "b.bin": b"\x00\xff\xfe"}


def test_charsets_are_as_configured_and_missing_characters_are_replaced(given: Callable[..., Letter]) -> None:
    letter = given(charset="iso-8859-1", text_part_charset="us-ascii")
    plain, html = (received(letter).get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None and html is not None
    assert (plain.get_content_charset(), html.get_content_charset()) == ("us-ascii", "iso-8859-1")
    assert plain.get_content().startswith("? There was nothing to do")
    assert "&#10003;&nbsp; Succeeded" in html.get_content()


def test_parts_have_headers_of_their_own(given: Callable[..., Letter]) -> None:
    letter = given(body_part_header={"content_disposition": "inline"}, html_body_part_header={"X-Part": "2"})
    plain, html = (received(letter).get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None and html is not None
    assert (plain["Content-Disposition"], html["X-Part"]) == ("inline", "2")


def test_a_prefix_stands_before_every_subject(given: Callable[..., Letter]) -> None:
    assert given(subject_prefix="[staging] ").message["Subject"] == (
        "[staging] ✓ There was nothing to do: Import <rows>"
    )
    assert given(subject_prefix="[${state}] ", subject="Nightly").message["Subject"] == "[success] Nightly"


def test_a_message_id_holds_the_notifications(given: Callable[..., Letter]) -> None:
    letter = given(message_id="<${id}.jobs@mail.x.test>")
    assert re.fullmatch(r"<cb_[\w-]{22}_complete_0\.jobs@mail\.x\.test>", letter.message_id)


def test_header_values_hold_fields(given: Callable[..., Letter]) -> None:
    assert given(headers={"X-Batch": "${bid} ${event}"}).message["X-Batch"].endswith(" complete")


# -- attachments and paths ----------------------------------------------------------------------------


def test_a_file_is_attached_where_the_configuration_names_it_as_a_path(
    send: Callable[..., Letter], tmp_path: Path
) -> None:
    path = tmp_path / "terms.txt"
    path.write_text("be kind")
    (part,) = received(send(attachments={"terms.txt": path})).iter_attachments()
    assert (part.get_filename(), part.get_content()) == ("terms.txt", "be kind")


@pytest.mark.parametrize("option", ["body", "html_body", "subject", "attachments"])
def test_no_text_is_taken_for_a_path(given: Callable[..., Letter], tmp_path: Path, option: str) -> None:
    path = tmp_path / "secret"
    path.write_text("SENTINEL")
    for text in (str(path), path.as_uri()):
        value = {"x.txt": text} if option == "attachments" else text
        assert b"SENTINEL" not in given(**{option: value}).as_bytes()


def test_on_takes_no_path(make_app: Callable[..., Celery], tmp_path: Path) -> None:
    app = make_app(batches_notifications={"email": TO})
    with pytest.raises(InvalidCallback, match="must be JSON"):
        Batch(app=app).on("complete", "email", attachments={"x": tmp_path})


def test_a_file_that_is_not_there_is_named_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    with pytest.raises(
        NotificationFailed, match=r"'a\.csv' cannot be read from .*none\.csv: No such"
    ) as caught:
        Email(to="a@x.test", attachments={"a.csv": path}, via="test").send(notification())
    assert not caught.value.permanent


# -- what only the configuration decides --------------------------------------------------------------


def test_override_options_outdo_those_of_on(send: Callable[..., Letter]) -> None:
    over = {"to": "staging@x.test", "cc": None, "bcc": None, "subject_prefix": "[staging] "}
    own = {"to": "customer@y.test", "cc": "boss@y.test", "subject": "Yours"}
    letter = send(own, override_options=over)
    assert letter.recipients == ("staging@x.test",)
    assert (letter.message["To"], letter.message["Cc"]) == ("staging@x.test", None)
    assert letter.message["Subject"] == "[staging] Yours"


def test_an_override_of_the_envelope_leaves_the_headers(send: Callable[..., Letter]) -> None:
    letter = send({"to": "customer@y.test"}, override_options={"smtp_envelope_to": "staging@x.test"})
    assert letter.recipients == ("staging@x.test",)
    assert letter.message["To"] == "customer@y.test"


@pytest.mark.parametrize(
    "own",
    [
        {"override_options": {}},
        {"override_options": "env:HOME"},
        {"via_options": {"location": "/bin/sh"}},
        {"via_options": {"arguments": "env:HOME"}},
    ],
)
def test_on_refuses_options_that_only_the_configuration_may_set(
    make_app: Callable[..., Celery], own: dict[str, Any]
) -> None:
    app = make_app(batches_notifications={"email": TO})
    with pytest.raises(InvalidCallback, match=r"is taken from batches_notifications only.*\"email:NAME\""):
        Batch(app=app).on("complete", "email", **own)
    with pytest.raises(InvalidCallback, match="only"):
        app._batches_extension.engine.registry.build("email", own)


# -- fields -------------------------------------------------------------------------------------------


def test_an_unknown_field_is_an_error_of_on_and_nothing_is_stored(
    make_app: Callable[..., Celery], redis: Redis
) -> None:
    app = make_app(batches_notifications={"email": TO})
    with pytest.raises(
        ConfigurationError, match=r"no field \$\{discription\} \(did you mean \$\{description\}"
    ):
        Batch(app=app).on("complete", "email", subject="${discription}")
    assert not redis.keys("batches:{*")


def test_every_field_is_filled_in_everywhere() -> None:
    everything = " ".join(f"${{{name}}}" for name in FIELDS)
    values = fields_of(failing())
    assert values.keys() == set(FIELDS)
    for fill in (fill_header, fill_text, fill_html):
        assert "$" not in fill(everything, values)
    assert (values["failures"], values["dead"], values["progress"]) == ("2", "1", "75%")
    assert values["headline"] == failing().subject
    assert values["errors"] == "2 × ValueError in import_row: Something failed 0"


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("$5 $PATH $$ $ ${bid}", f"$5 $PATH $$ $ {BID}"),
        ("$${bid}", "${bid}"),
        ("${description}", "${bid} $ <b>"),
    ],
)
def test_only_braces_are_fields_and_a_field_is_filled_in_once(text: str, filled: str) -> None:
    assert fill_text(text, fields_of(notification(description="${bid} $ <b>"))) == filled


@pytest.mark.parametrize("text", HOSTILE)
def test_no_field_brings_a_line_into_a_header_or_a_tag_into_html(text: str) -> None:
    about = hostile(text)
    kinds = (*about.status.failure_info, failure())
    values = fields_of(replace(about, status=replace(about.status, failure_info=kinds)))
    everything = "|".join(f"${{{name}}}" for name in FIELDS)
    assert is_one_line(fill_header(everything, values))
    tags = re.findall(r"<[^>]*>?", fill_html(everything, values))
    assert set(tags) <= {"<br>"}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_fields_make_a_mail_with_the_same_headers(outbox: list[Letter], text: str) -> None:
    where = dict.fromkeys(("subject", "body", "html_body"), "${description} ${tags} ${errors}")
    headers = {"X-Batch": "${description} ${errors}"}
    notifier = Email(to="a@x.test", headers=headers, subject_prefix="[${tags}] ", via="test", **where)
    notifier.send(hostile(text))
    names = sorted(name.lower() for name in outbox[0].message)
    notifier.send(hostile("tame"))
    assert names == sorted(name.lower() for name in outbox[1].message)
    assert outbox[0].recipients == ("a@x.test",)


def test_times_are_those_of_the_systems_zone(outbox: list[Letter]) -> None:
    about = replace(notification(), origin=Origin(name="billing", timezone=ZoneInfo("America/New_York")))
    Email(to="a@x.test", body="${created_at}, ${system}, ${death_at}.", via="test").send(about)
    assert content(outbox[0]) == "2026-11-02 05:00:00 EST, billing, ."


@pytest.mark.parametrize(("level", "shown"), [("none", ""), ("counts", "2 × ValueError in import_row")])
def test_fields_hold_no_more_of_the_failures_than_the_reader_may_see(
    outbox: list[Letter], level: str, shown: str
) -> None:
    Email(to="a@x.test", body="[${errors}]", failures=level, via="test").send(failing())
    assert content(outbox[0]) == f"[{shown}]"


# -- one thread ---------------------------------------------------------------------------------------


def test_all_mails_of_a_batch_are_in_one_thread_and_each_has_an_id_of_its_own(outbox: list[Letter]) -> None:
    notifier = Email(to="a@x.test", from_="c@x.test", via="test")
    for event in (Event.COMPLETE, Event.FINISH, Event.SUCCESS):
        notifier.send(notification(event))
    notifier.send(replace(notification(), status=replace(notification().status, bid="another-batch")))
    threads = [(mail.message["References"], mail.message["In-Reply-To"]) for mail in outbox]
    assert threads[:3] == [(f"<{BID}@x.test>", f"<{BID}@x.test>")] * 3
    assert threads[3] != threads[0]
    assert len({mail.message_id for mail in outbox[:3]}) == 3


def test_a_thread_of_ones_own_stays(outbox: list[Letter]) -> None:
    Email(to="a@x.test", headers={"references": "<mine@x.test>"}, via="test").send(notification())
    assert outbox[0].message.get_all("References") == ["<mine@x.test>"]


# -- where it comes from, and since when --------------------------------------------------------------


def test_the_worker_says_which_system_it_is_and_when_it_looked(
    make_app: Callable[..., Celery], outbox: list[Letter]
) -> None:
    app = make_app(
        batches_notifications={"email": TO},
        batches_name="billing",
        batches_environment="staging",
        timezone="Europe/Berlin",
    )
    batch = Batch("rows", app=app).on("deadline", "email", after=timedelta(hours=3))
    with batch:
        app.send_task("proj.add", (1, 2))
    client, key = app._batches_extension.engine.store.client, f"batches:{{{batch.bid}}}"
    client.hset(key, "created_at", 1_000)
    client.hset(f"{key}:outbox", "deadline:0", "due 0 0")
    client.expire(f"{key}:outbox", 60)
    app._batches_extension.engine.attempts.run(batch.bid, "deadline:0")
    text = content(outbox[0], "plain")
    assert text.startswith("⚠ Not finished within 3 h, 0 of 1 succeeded: rows\n")
    assert "\n  System           billing (staging)\n" in text
    assert "\n  Started          1970-01-01 01:00:01 CET\n" in text
    assert re.search(r"\n  Running for      \d+ d( \d+ h)?\n  Limit            3 h\n", text)
    assert f"\nSee more: celery -A tests batch doctor {batch.bid}\n" in text


def test_an_example_is_short_and_the_failure_is_the_first_of_its_kind() -> None:
    later = failure(error_message="second", failed_at=CREATED_AT + timedelta(minutes=5))
    built = build_notifier(Email, TO)  # type: ignore[type-abstract]
    assert isinstance(built, Email)
    assert "first" in fields_of(failing(2, failure_info=(failure(error_message="first"), later)))["errors"]

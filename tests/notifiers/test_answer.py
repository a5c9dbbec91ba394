"""Answers of receivers, without a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from celery_batches_notify.notifiers.http.answer import Answer, is_permanent, parse_retry_after, to_failure
from celery_batches_notify.notifiers.redaction import Redactor

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("Mon, 02 Nov 2026 12:01:00 GMT", 60),
        ("Monday, 02-Nov-26 12:01:00 GMT", 60),
        ("Mon, 02 Nov 2026 13:01:00 +0100", 60),
        ("Mon Nov  2 12:01:00 2026", 60),
        ("Mon, 02 Nov 2026 11:00:00 GMT", 0),
        ("Tue, 03 Nov 2026 12:00:00 GMT", 3600),
        ("120", 120),
        (" 120 ", 120),
        ("1e9", None),
        ("١٢٠", None),
        ("9" * 5000, None),
        ("Mon, 02 Nov 99999 12:01:00 GMT", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_every_form_of_rfc_9110(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=NOW) == seconds
    assert parse_retry_after(value, now=NOW.astimezone(timezone(timedelta(hours=9)))) == seconds


def test_every_status_is_either_permanent_or_not() -> None:
    permanent = {status for status in range(100, 600) if is_permanent(status)}
    assert permanent == {301, 308, *range(400, 500)} - {401, 403, 407, 408, 409, 425, 429}


@pytest.mark.parametrize(
    "body",
    [
        "token abc/def is wrong",
        "token abc%2Fdef is wrong",
        "token abc&#47;def is wrong",
        "token abc&#x2f;def is wrong",
        r'{"path": "\/abc\/def"}',
    ],
)
def test_an_answer_that_repeats_a_secret_in_any_form_is_not_quoted(body: str) -> None:
    answer = Answer(status_code=400, headers={"content-type": "text/plain"}, body=body.encode())
    assert str(to_failure("http://x", answer, Redactor(["abc/def"]))) == "http://x: answered 400 Bad Request"


def test_short_parts_of_an_address_do_not_gag_the_receiver() -> None:
    answer = Answer(status_code=400, headers={"Content-Type": "text/plain"}, body=b"no_text")
    assert str(to_failure("http://x", answer, Redactor(["", "T0", "no"]))).endswith(": no_text")

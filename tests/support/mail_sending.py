"""Sends mails to a server of the test."""

from __future__ import annotations

import base64
import traceback
from typing import Any

import pytest

from celery_batches_notify.notifiers.mailer import MailFailed, Receipt, mail
from tests.support.smtp_server import PASSWORD

CANARY = "SENTINEL"


def send(port: int, *, to: object = "a@example.com", **via_options: Any) -> Receipt:
    given = {"address": "127.0.0.1", "port": port, **via_options}
    return mail(to=to, from_="me@example.com", subject="Hi", body="Ready.", via="smtp", via_options=given)


def send_in_vain(port: int, **how: Any) -> MailFailed:
    with pytest.raises(MailFailed) as caught:
        send(port, **how)
    report = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert CANARY not in report
    assert base64.b64encode(PASSWORD.encode()).decode() not in report
    return caught.value

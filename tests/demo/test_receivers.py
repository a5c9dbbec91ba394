from __future__ import annotations

import smtplib
import time
from email.message import EmailMessage

import requests

from celery_batches_notify.demo.receivers import HOOK_PATH, Catch, CaughtHook, catch_hooks, catch_mail
from celery_batches_notify.notifiers.signature import new_secret, sign

BODY = b'{"bid": "b"}'


def post(catch: Catch[CaughtHook], secret: str) -> int:
    timestamp = int(time.time())
    headers = {
        "webhook-id": "id",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(BODY, secret, webhook_id="id", timestamp=timestamp),
    }
    url = f"http://127.0.0.1:{catch.port}{HOOK_PATH}"
    with requests.post(url, data=BODY, headers=headers, timeout=5) as answer:
        return answer.status_code


def test_a_mail_is_caught_as_it_was_sent() -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@example.com", "b@example.com", "Grüße"
    mail.set_content("Text.")
    with catch_mail() as catch:
        with smtplib.SMTP("127.0.0.1", catch.port) as client:
            client.send_message(mail)
        caught = catch.wait_for(lambda mail: mail["To"] == "b@example.com", 5)
    assert caught is not None
    assert (caught["Subject"], caught.get_content().strip()) == ("Grüße", "Text.")


def test_a_genuine_webhook_is_caught_and_accepted() -> None:
    secret = new_secret()
    with catch_hooks(secret) as catch:
        assert post(catch, secret) == 204
        caught = catch.wait_for(lambda _: True, 5)
    assert caught is not None
    assert caught.content == {"bid": "b"}


def test_a_forged_webhook_is_caught_and_refused() -> None:
    with catch_hooks(new_secret()) as catch:
        assert post(catch, new_secret()) == 401
        caught = catch.wait_for(lambda _: True, 5)
    assert caught is not None
    assert caught.content is None
    assert "signature" in caught.fault


def test_waiting_for_an_unwanted_value_times_out() -> None:
    catch = Catch[int](0)
    catch.put(1)
    assert catch.wait_for(lambda n: n == 2, 0.05) is None
    assert catch.wait_for(lambda n: n == 1, 0) == 1

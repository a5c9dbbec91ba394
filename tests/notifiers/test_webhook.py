"""The webhook's headers, body and schema, and the parts that a large body leaves out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Reference

from celery_batches_notify.errors import ConfigurationError, InvalidCallback, NotificationFailed
from celery_batches_notify.model import Event, Notification
from celery_batches_notify.notifiers.base import build_notifier, merge_options, refuse_secrets
from celery_batches_notify.notifiers.signature import new_secret, verify
from celery_batches_notify.notifiers.webhook import BODY_BYTES, Webhook, render_body
from tests.support import samples
from tests.support.http_server import Server, answer, serving

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "reference" / "webhook.schema.json").read_text("utf-8")
)
OLD, NEW = new_secret(), new_secret()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def check(body: bytes) -> dict[str, Any]:
    """Check a body against a strict schema, which knows every property."""
    strict = SCHEMA | {"additionalProperties": False}
    strict["$defs"] = SCHEMA["$defs"] | {
        "failure": SCHEMA["$defs"]["failure"] | {"additionalProperties": False}
    }
    content = json.loads(body)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(strict, format_checker=checker).validate(content)
    assert len(body) <= BODY_BYTES
    times = {value for name, value in content.items() if name.endswith("_at")} - {None}
    assert all(datetime.fromisoformat(value).utcoffset() == timedelta(0) for value in times)
    return content  # type: ignore[no-any-return]


def test_it_posts_the_status_as_json(server: Server) -> None:
    sent = samples.failing()
    assert Webhook(url=server.url + "/hook").send(sent) == "200 OK"
    assert server.only.headers["content-type"] == "application/json"
    content = check(server.only.body)
    assert content == json.loads(json.dumps(sent.as_dict()))
    assert content["event"] == "complete"
    assert content["total"] == 4
    assert content["failure_info"][1]["error_message"] == "Something failed 1"
    assert content["url"] == f"https://ops.test/{samples.BID}"


def test_its_id_is_the_notifications_on_every_attempt(server: Server) -> None:
    webhook = Webhook(url=server.url, secret=NEW)
    for attempt in (1, 2):
        webhook.send(
            Notification(id="cb_x_success_0", event="success", status=samples.status(), attempt=attempt)
        )
    for request in server.received:
        assert request.headers["webhook-id"] == "cb_x_success_0"
        assert request.headers["idempotency-key"] == "cb_x_success_0"
    assert server.received[0].body == server.received[1].body


def test_it_always_has_an_id_and_a_time_and_without_a_secret_no_signature(server: Server) -> None:
    before = int(time.time())
    Webhook(url=server.url).send(samples.notification())
    assert before <= int(server.only.headers["webhook-timestamp"]) <= time.time()
    assert "webhook-signature" not in server.only.headers
    assert "authorization" not in server.only.headers


def test_the_signed_body_is_the_one_that_arrives(server: Server) -> None:
    Webhook(url=server.url, secret=NEW).send(samples.hostile("grüße 🙂 \ud83d"))
    request = server.only
    assert verify(request.body, request.headers, NEW) == request.json
    assert Reference(NEW).verify(request.body, dict(request.headers)) == request.json


def test_both_secrets_fit_while_they_are_changed(server: Server) -> None:
    Webhook(url=server.url, secret=[NEW, OLD]).send(samples.notification())
    for secret in (NEW, OLD):
        assert Reference(secret).verify(server.only.body, dict(server.only.headers))


def test_basic_auth_is_sent_in_utf_8(server: Server) -> None:
    Webhook(url=server.url, username="jürgen", password="pä:ss").send(samples.notification())
    assert server.only.headers["authorization"] == "Basic asO8cmdlbjpww6Q6c3M="


def test_headers_of_ones_own_are_sent(server: Server) -> None:
    Webhook(url=server.url, headers={"X-Team": "billing", "Authorization": "Bearer t"}).send(
        samples.notification()
    )
    assert server.only.headers["x-team"] == "billing"
    assert server.only.headers["authorization"] == "Bearer t"


def test_it_refuses_private_addresses_if_configured(server: Server) -> None:
    webhook = Webhook(url=server.url, allow_private=False)
    with pytest.raises(NotificationFailed, match="not public"):
        webhook.send(samples.notification())
    assert server.connections == 0


@pytest.mark.parametrize("leak", [NEW, OLD, "t0ken", "xyzzy"], ids=["new", "old", "header", "password"])
def test_a_receiver_that_repeats_any_secret_is_not_quoted(leak: str) -> None:
    with serving(answer(400, f"{leak} is wrong".encode())) as receiver:
        webhook = Webhook(
            url=receiver.url,
            secret=[NEW, OLD],
            username="mike",
            password="xyzzy",
            headers={"X-Token": "t0ken"},
        )
        with pytest.raises(NotificationFailed, match=r"answered 400 Bad Request$"):
            webhook.send(samples.notification())


# The body


@pytest.mark.parametrize("event", list(Event))
def test_every_event_fits_the_schema(event: Event) -> None:
    assert check(render_body(samples.notification(event)))["event"] == event


@pytest.mark.parametrize("text", samples.HOSTILE)
def test_hostile_texts_fit_the_schema(text: str) -> None:
    content = check(render_body(samples.hostile(text)))
    assert len(content["failure_info"]) <= 10


def test_a_bare_open_batch_fits_the_schema() -> None:
    bare = samples.status(
        description="",
        tags=(),
        state="open",
        total=0,
        succeeded=0,
        sealed_at=None,
        complete_at=None,
        success_at=None,
        finish_at=None,
        expires_at=None,
    )
    content = check(render_body(Notification(id="x", event="death", status=bare)))
    assert content["url"] is None


def test_the_schema_refuses_other_bodies() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    good = samples.notification().as_dict()
    validator.validate(good)
    for wrong in ({"schema_version": 2}, {"bid": "../x"}, {"total": -1}, {"event": "party"}, {"tags": "a"}):
        assert not validator.is_valid(good | wrong), wrong
    assert not validator.is_valid({key: value for key, value in good.items() if key != "bid"})
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("character", ["x", "ü", "🙂", "\x01", '"', "\ud83d"])
@pytest.mark.parametrize("length", [100, 2_000, 8_000, 100_000, 1_000_000])
def test_a_body_is_never_over_64_kb_nor_broken(character: str, length: int) -> None:
    text = character * length
    many = tuple(samples.failure(backtrace=text, error_message=text) for _ in range(100))
    content = check(render_body(samples.failing(100, failure_info=many)))
    assert content["failures"] == 100


def test_of_a_large_body_the_ends_of_backtraces_go_last() -> None:
    trace = "Traceback\n" + "x" * 20_000 + "\nValueError: the end"
    many = tuple(samples.failure(backtrace=trace) for _ in range(10))
    for failure in check(render_body(samples.failing(10, failure_info=many)))["failure_info"]:
        assert failure["backtrace"].endswith("ValueError: the end")


def test_even_a_giant_description_and_giant_tags_are_cut_down() -> None:
    text = "\x01" * 1_000_000
    content = check(render_body(samples.hostile(text, url="https://ops.test/" + "x" * 1_000_000)))
    assert content["bid"] == samples.BID


@given(text=st.text(max_size=300))
def test_any_text_makes_a_good_body(text: str) -> None:
    check(render_body(samples.hostile(text)))


# Its options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "url"),
        ({"url": "hooks.example.com"}, "url is not an HTTP address"),
        ({"url": "ftp://example.com"}, "url is not an HTTP address"),
        ({"url": "https://"}, "url is not an HTTP address"),
        ({"url": "https://mike:xyzzy@example.com"}, "use username= and password="),
        ({"url": "https://example.com/ x"}, "url is not a URL"),
        ({"url": 42}, "url is not a URL"),
        ({"username": "mike"}, "go together"),
        ({"password": "xyzzy"}, "go together"),
        ({"username": "mi:ke", "password": "xyzzy"}, "colon"),
        ({"username": "mike", "password": 42}, "password must be a string"),
        ({"secret": "xyzzy"}, "new_secret"),
        ({"secret": [NEW, "xyzzy"]}, "new_secret"),
        ({"secret": []}, "at least one"),
        ({"secret": ""}, "new_secret"),
        ({"headers": "X-Token: xyzzy"}, "must be a mapping"),
        ({"headers": {"Webhook-Id": "xyzzy"}}, "the notifier itself sets"),
        (
            {"headers": {"authorization": "xyzzy"}, "username": "a", "password": "b"},
            "the notifier itself sets",
        ),
        ({"headers": {"X-A": "xyzzy\r\nX-B: 1"}}, "on one line"),
        ({"headers": {"X A": "xyzzy"}}, "letters, digits"),
        ({"headers": {"X-A": "xyzzyé"}}, "ASCII"),
        ({"timeout": 0}, "timeout must be a number of seconds"),
        ({"timeout": "15"}, "timeout must be a number of seconds"),
        ({"timeout": 3600}, "timeout must be a number of seconds"),
        ({"timeout": float("nan")}, "timeout must be a number of seconds"),
        ({"allow_private": "no"}, "must be True or False"),
        ({"ca_file": ""}, "ca_file"),
        ({"URL": "https://example.com"}, "no option 'URL' .did you mean 'url'"),
    ],
)
def test_a_wrong_option_is_named_with_its_fix_and_without_its_value(
    options: dict[str, Any], words: str
) -> None:
    given = {"url": "https://example.com"} | options if options else {}
    with pytest.raises(ConfigurationError, match=words) as caught:
        build_notifier(Webhook, given)
    assert str(caught.value).startswith("webhook: ") or not options
    assert "xyzzy" not in str(caught.value)


def test_references_to_the_environment_are_taken_and_read_late(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"url": "env:HOOK_URL", "username": "env:ME", "password": "env:PW", "secret": ["env:KEY", OLD]}
    build_notifier(Webhook, options, reveal=False)
    for name, value in {"HOOK_URL": "https://example.com/", "ME": "mike", "PW": "xyzzy", "KEY": NEW}.items():
        monkeypatch.setenv(name, value)
    assert build_notifier(Webhook, options) == Webhook(
        url="https://example.com/", username="mike", password="xyzzy", secret=[NEW, OLD]
    )
    monkeypatch.setenv("KEY", "xyzzy")
    with pytest.raises(ConfigurationError, match="new_secret"):
        build_notifier(Webhook, options)


@pytest.mark.parametrize("option", ["password", "secret", "headers"])
def test_a_secret_is_refused_in_on(option: str) -> None:
    with pytest.raises(InvalidCallback, match=option):
        refuse_secrets(Webhook, {"url": "https://example.com", option: "xyzzy"})


def test_the_url_is_taken_in_on_and_another_origin_gets_no_credentials() -> None:
    configured = {
        "url": "https://default/url",
        "username": "mike",
        "password": "xyzzy",
        "secret": NEW,
        "headers": {"X-Token": "t"},
        "timeout": 5,
    }
    refuse_secrets(Webhook, {"url": "https://other/hook"})
    assert merge_options(Webhook, configured, {"url": "https://other/hook"}) == {
        "url": "https://other/hook",
        "timeout": 5,
    }
    same = merge_options(Webhook, configured, {"url": "https://default/other"})
    assert same == configured | {"url": "https://default/other"}

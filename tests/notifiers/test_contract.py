"""The promises that every notifier keeps."""

from __future__ import annotations

import copy
import dataclasses
import html
import logging
import subprocess
import sys
import time

import pytest

from celery_batches_notify.errors import ConfigurationError, InvalidCallback, NotificationFailed
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.base import Notifier, build_notifier, refuse_secrets
from tests.support import samples
from tests.support.channels import CANARY, SECONDS, Channel, Mood
from tests.support.channels import CHANNELS as HTTP_CHANNELS
from tests.support.channels_email import EMAIL

HEAVY = {"requests", "urllib3", "apprise", "requests_hardened", "yagmail", "smtplib"}

CHANNELS: list[Channel] = [*HTTP_CHANNELS, EMAIL]

HEADLINE = "✗ 1 of 4 failed for good, 1 will be retried: Import rows"

channels = pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.label)


def fail(channel: Channel, mood: Mood, notification: Notification | None = None) -> NotificationFailed:
    """Send to a receiver in this mood, which must get at most one request."""
    with channel.open(mood) as visit:
        notifier = build_notifier(channel.kind, visit.options)
        with pytest.raises(NotificationFailed) as caught:
            notifier.send(notification or samples.failing())
        assert visit.count() <= 1
    return caught.value


# Delivery


@channels
def test_it_delivers_one_message_and_says_so(channel: Channel) -> None:
    with channel.open(Mood.ACCEPTS) as visit:
        said = build_notifier(channel.kind, visit.options).send(samples.failing())
        assert visit.count() == 1
        texts = [text for _, text in visit.texts()]
    assert isinstance(said, str)
    assert 0 < len(said) < 100
    assert 200 <= getattr(said, "status_code", 200) < 300
    assert hasattr(said, "status_code") or channel.label == "apprise"  # which does not pass it on
    if channel.is_for_people:
        assert HEADLINE in texts[0]
        assert "2 × ValueError in import_row" in "".join(texts)
        assert "Something failed 0" in "".join(texts)


@channels
@pytest.mark.parametrize("mood", [Mood.FAILS, Mood.BREAKS])
def test_a_receiver_in_trouble_is_tried_again(channel: Channel, mood: Mood) -> None:
    assert not fail(channel, mood).permanent


@channels
@pytest.mark.parametrize("mood", [Mood.REFUSES, Mood.IS_GONE])
def test_a_receiver_that_says_no_is_left_alone(channel: Channel, mood: Mood) -> None:
    failure = fail(channel, mood)
    assert failure.permanent
    assert failure.status_code is not None


@channels
def test_a_busy_receiver_says_when_to_come_back(channel: Channel) -> None:
    failure = fail(channel, Mood.IS_BUSY)
    assert not failure.permanent
    assert failure.retry_after == (7 if channel.tells_wait else None)


@channels
@pytest.mark.parametrize("mood", [Mood.HANGS, Mood.DRIPS])
def test_a_slow_receiver_does_not_hold_the_worker(channel: Channel, mood: Mood) -> None:
    start = time.monotonic()
    failure = fail(channel, mood)
    assert time.monotonic() - start < SECONDS + 10
    assert not failure.permanent


@channels
def test_a_receiver_that_is_away_is_retried(channel: Channel) -> None:
    with channel.open(Mood.ACCEPTS) as visit:
        options = visit.options
    with pytest.raises(NotificationFailed) as caught:
        build_notifier(channel.kind, options).send(samples.notification())
    assert not caught.value.permanent


# Secrets


@channels
@pytest.mark.parametrize("mood", list(Mood))
def test_secrets_are_not_shown(channel: Channel, mood: Mood, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[object] = []
    with channel.open(mood) as visit:
        assert CANARY in repr(visit.options)
        notifier = build_notifier(channel.kind, visit.options)
        told += [notifier, str(notifier)]
        try:
            told.append(notifier.send(samples.failing()))
        except NotificationFailed as exc:
            error: BaseException | None = exc
            while error is not None:
                told += [error, repr(error), vars(error)]
                error = error.__cause__ or error.__context__
    everything = " ".join(map(str, told)) + caplog.text
    for secret in channel.secrets:
        assert secret not in everything


@channels
def test_its_secrets_are_options_that_on_refuses(channel: Channel) -> None:
    names = {field.name for field in dataclasses.fields(channel.kind)}  # type: ignore[arg-type]
    for path in channel.kind.secrets | channel.kind.credentials:
        assert path.partition(".")[0] in names
    for secret in channel.kind.secrets:
        own: object = CANARY
        for key in reversed(secret.split(".")):
            own = {key: own}
        with pytest.raises(InvalidCallback, match=secret):
            refuse_secrets(channel.kind, own)  # type: ignore[arg-type]


@channels
def test_the_declaring_process_needs_no_secret(channel: Channel) -> None:
    with channel.open(Mood.ACCEPTS) as visit:
        options = copy.deepcopy(dict(visit.options))
    for path in channel.kind.secrets:
        *outer, name = path.split(".")
        inner = options[outer[0]] if outer else options
        if isinstance(inner.get(name), str):
            inner[name] = "env:NOT_SET_HERE"
    build_notifier(channel.kind, options, reveal=False)
    with pytest.raises(ConfigurationError, match="NOT_SET_HERE"):
        build_notifier(channel.kind, options)


# Messages


@channels
@pytest.mark.parametrize("text", samples.HOSTILE, ids=range(len(samples.HOSTILE)))
def test_hostile_text_is_delivered_and_harmless(channel: Channel, text: str) -> None:
    with channel.open(Mood.ACCEPTS) as visit:
        build_notifier(channel.kind, visit.options).send(samples.hostile(text))
        assert visit.count() == 1
        for is_harmless, written in visit.texts():
            is_harmless(written)


@channels
def test_people_copy_the_original_text(channel: Channel) -> None:
    said = "no mailbox ops+x@example.com at https://x.test/a_b?c=[d](e)"
    bad = samples.failure(error_message=said)
    with channel.open(Mood.ACCEPTS) as visit:
        build_notifier(channel.kind, visit.options).send(samples.failing(1, failure_info=(bad,)))
        texts = "".join(text for _, text in visit.texts())
    if channel.is_for_people:
        assert said in html.unescape(texts)
        assert "\u200b" not in texts


@channels
@pytest.mark.parametrize("level", ["none", "counts", "messages", "full"])
def test_a_receiver_sees_no_more_of_the_failures_than_it_may(channel: Channel, level: str) -> None:
    with channel.open(Mood.ACCEPTS) as visit:
        notifier = build_notifier(channel.kind, {**visit.options, "failures": level})
        notifier.send(samples.failing())
        texts = "".join(text for _, text in visit.texts())
    if channel.is_for_people:
        assert "1 of 4 failed for good" in texts
        assert ("2 × ValueError in import_row" in texts) is (level != "none")
        assert ("Something failed 0" in texts) is (level in ("messages", "full"))
    with pytest.raises(ConfigurationError, match=r"failures must be one of none, counts, messages, full"):
        build_notifier(channel.kind, {**visit.options, "failures": "some"})


@channels
def test_a_bare_notification_is_delivered(channel: Channel) -> None:
    bare = samples.status(description="", tags=(), total=0, succeeded=0, sealed_at=None, finish_at=None)
    with channel.open(Mood.ACCEPTS) as visit:
        notifier = build_notifier(channel.kind, visit.options)
        notifier.send(Notification(id="x", event="complete", status=bare))
        assert visit.count() == 1


# Shape


@channels
def test_an_unknown_option_is_refused_by_name(channel: Channel) -> None:
    with (
        channel.open(Mood.ACCEPTS) as visit,
        pytest.raises(ConfigurationError, match=r"no option .colour."),
    ):
        build_notifier(channel.kind, {**visit.options, "colour": "red"})


@channels
def test_it_is_a_frozen_value_without_a_dict(channel: Channel) -> None:
    with channel.open(Mood.ACCEPTS) as visit:
        notifier = build_notifier(channel.kind, visit.options)
    assert isinstance(notifier, Notifier)
    assert not hasattr(notifier, "__dict__")
    field = dataclasses.fields(channel.kind)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(notifier, field, "other")
    assert channel.kind.__doc__


def test_their_names_are_words_of_their_own() -> None:
    names = {channel.kind: channel.kind.name for channel in CHANNELS}
    assert len(set(names.values())) == len(names)
    assert all(name.isidentifier() and name.islower() for name in names.values())


def test_importing_them_loads_nothing_heavy() -> None:
    imports = "\n".join(sorted({f"import {channel.kind.__module__}" for channel in CHANNELS}))
    code = f"import sys\n{imports}\nprint({HEAVY} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"

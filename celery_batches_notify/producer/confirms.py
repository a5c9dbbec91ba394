"""Publisher confirms of RabbitMQ, waited for once for many messages; each refusal is known by its message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import MessageNacked

from celery_batches_notify.messages.celerys_own import is_from
from celery_batches_notify.messages.templates import TemplateCall
from celery_batches_notify.producer.writing import writing_together


def waits_for_confirms(channel: Any) -> bool:
    """Whether each publish on this channel waits for its confirm, as py-amqp does with `confirm_publish`."""
    publish = vars(channel).get("basic_publish")
    return publish == getattr(channel, "basic_publish_confirm", None) and is_from("amqp.channel", publish)


def publish_confirmed(
    channel: Any,
    calls: Sequence[TemplateCall],
    publish: Callable[[TemplateCall], None],
) -> None:
    """Publish these calls, then wait until the broker has taken or refused each.

    Args:
        channel: A channel that waits for confirms.
        calls: The calls; their `sent` says what became of them.
        publish: Publishes one of them on this channel.

    Raises:
        MessageNacked: The broker refused some.
    """
    waiting: dict[int, TemplateCall] = {}
    tags: list[int] = []

    def settle(tag: int, multiple: bool, *, sent: bool) -> None:
        tags.append(tag)
        for each in [each for each in waiting if each <= tag] if multiple else [tag]:
            if (call := waiting.pop(each, None)) is not None:
                call.sent = sent

    with _listening(channel, settle):
        first, *rest = calls
        first.sent = None
        try:
            publish(first)  # waits for its confirm, and so shows where the broker counts
        except MessageNacked:
            first.sent = False
            raise
        first.sent = True
        place = tags[-1]
        with _not_waiting(channel):
            with writing_together(channel):
                for number, call in enumerate(rest, place + 1):
                    call.sent = None  # safety: unknown-not-unsent-confirmed
                    waiting[number] = call
                    publish(call)
            while waiting:
                channel.connection.drain_events()
    if any(call.sent is False for call in calls):
        raise MessageNacked


@contextmanager
def _listening(channel: Any, settle: Callable[..., None]) -> Iterator[None]:
    def on_ack(tag: int, multiple: bool) -> None:
        settle(tag, multiple, sent=True)

    def on_nack(tag: int, multiple: bool) -> None:
        settle(tag, multiple, sent=False)

    acks, nacks = channel.events["basic_ack"], channel.events["basic_nack"]
    acks.add(on_ack)
    nacks.add(on_nack)
    try:
        yield
    finally:
        acks.discard(on_ack)
        nacks.discard(on_nack)


@contextmanager
def _not_waiting(channel: Any) -> Iterator[None]:
    """Let the channel publish as it does without confirms, which the broker sends all the same."""
    waiting = vars(channel).pop("basic_publish")
    try:
        yield
    finally:
        channel.basic_publish = waiting

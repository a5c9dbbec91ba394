"""The ways in which calls become messages: stamped if that has proved itself, else by Celery and kombu."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Any, cast

from celery import Celery, signals

from celery_batches_notify.messages.block import Call
from celery_batches_notify.messages.celerys_own import is_from
from celery_batches_notify.messages.members import member_message
from celery_batches_notify.messages.sender import Sender
from celery_batches_notify.messages.templates import TemplateCall, new_ids
from celery_batches_notify.producer.stamping import NotStampable, Stamp

AT_ONCE = 100  # messages in one command: so many are unknown if its reply is lost
_LISTENED = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)

logger = logging.getLogger(__name__)


def publish_calls(app: Celery, sender: Sender, bid: str, calls: Sequence[Call]) -> None:
    """Publish calls that are members of a batch, in their order; each one's `sent` says how far that came."""
    with app.producer_or_acquire() as producer:
        stamps = _Stamps(sender, producer, bid)
        for is_stamped, run in groupby(calls, stamps.has):
            if is_stamped:
                _push_all(producer, bid, stamps, cast("list[TemplateCall]", list(run)))
            else:
                for call in run:
                    message = member_message(call, bid)
                    call.sent = None  # safety: unknown-not-unsent
                    sender.send(producer, call.name, message, **call.options)
                    call.sent = True


class _Stamps:
    """The stamps that serve here and now."""

    def __init__(self, sender: Sender, producer: Any, bid: str) -> None:
        self._sender = sender
        self._producer = producer
        self._bid = bid

    @cached_property
    def _where(self) -> tuple[Any, ...] | None:
        """What a stamp is good for, or None if none is good for anything here."""
        producer, connection = self._producer, self._producer.connection
        if (
            connection.transport.driver_type != "redis"
            or any(signal.receivers for signal in _LISTENED)
            or not is_from("celery.app.amqp", self._sender.send)
            or not is_from("kombu.messaging", type(producer).publish)
        ):
            return None
        try:
            kind = type(producer.channel)
        except connection.connection_errors:  # Celery's way tries again
            return None
        is_known = is_from("kombu.transport.virtual.base", kind.basic_publish)
        return (connection.hostname, connection.virtual_host, kind) if is_known else None

    def has(self, call: Call) -> bool:
        """Whether a stamp can write this call's message."""
        return isinstance(call, TemplateCall) and self._where is not None and self.of(call) is not None

    def of(self, call: TemplateCall) -> Stamp | None:
        """Return the stamp for a call; at a template's first call, find out whether there can be one."""
        template = call.template
        if template.stamp is None or template.stamp[0] != self._where:
            stamp: Stamp | None = None
            try:
                stamp = Stamp(self._sender.send, self._producer, self._bid, call)
            except self._producer.connection.connection_errors:
                return None  # Celery's way tries again
            except Exception as exc:  # noqa: BLE001 - whatever it is, Celery's own way is right
                why = str(exc) if isinstance(exc, NotStampable) else repr(exc)
                logger.info("messages of %s are written by Celery one by one: %s", call.name, why)
            template.stamp = (self._where, stamp)
        found: Stamp | None = template.stamp[1]
        return found


def _push_all(producer: Any, bid: str, stamps: _Stamps, calls: list[TemplateCall]) -> None:
    """Push the messages of these calls to their lists, a hundred at once."""
    by_key: dict[str, list[TemplateCall]] = {}
    for call in calls:
        by_key.setdefault(cast("Stamp", stamps.of(call)).key, []).append(call)
    for same in by_key.values():
        for at in range(0, len(same), AT_ONCE):
            _push(producer, bid, stamps, same[at : at + AT_ONCE])


def _push(producer: Any, bid: str, stamps: _Stamps, calls: list[TemplateCall]) -> None:
    tags, payloads = new_ids(len(calls)), list[str]()
    for _, run in groupby(calls, attrgetter("template")):
        of_template = list(run)
        stamp = cast("Stamp", stamps.of(of_template[0]))
        at = len(payloads)
        payloads += stamp.write(bid, of_template, tags[at : at + len(of_template)])
    stamp.push(producer, payloads, calls)

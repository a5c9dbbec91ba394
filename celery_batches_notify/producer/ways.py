"""The ways in which calls become messages: stamped if that has proved itself, else by Celery and kombu."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, cast

from celery import Celery, signals
from celery.exceptions import SoftTimeLimitExceeded

from celery_batches_notify.messages.block import Call
from celery_batches_notify.messages.celerys_own import is_from
from celery_batches_notify.messages.ids import new_ids
from celery_batches_notify.messages.members import member_message
from celery_batches_notify.messages.sender import Sender
from celery_batches_notify.messages.templates import TemplateCall
from celery_batches_notify.producer.confirms import publish_confirmed, waits_for_confirms
from celery_batches_notify.producer.preparing import NotPrepared, Prepared
from celery_batches_notify.producer.stamping import Line, NotStampable, Stamp
from celery_batches_notify.producer.writing import writing_together

AT_ONCE = 100  # messages in one command: so many are unknown if its reply is lost
CONFIRMED_AT_ONCE = 1000  # messages before a wait for their confirms, which take a disk's time
_TAG_ENDS = [f"{at:012x}" for at in range(AT_ONCE)]
_template_of = attrgetter("template")
_LISTENED = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)

logger = logging.getLogger(__name__)


def publish_calls(app: Celery, sender: Sender, bid: str, calls: Sequence[Call]) -> None:
    """Publish calls that are members of a batch, in their order; each one's `sent` says how far that came."""
    with app.producer_or_acquire() as producer:
        ways = _Ways(sender, producer, bid)
        runs = [list(run) for _, run in groupby(calls, _template_of)]
        for kind, same in groupby(runs, lambda run: type(ways.of(run[0]))):
            some: list[Any] = list(chain.from_iterable(same))
            if kind is Stamp:
                _push_all(producer, bid, ways, some)
            elif kind is Prepared:
                _publish_all(producer, bid, ways, some)
            else:
                _send_all(producer, bid, sender, some)


def _send_all(producer: Any, bid: str, sender: Sender, calls: list[Call]) -> None:
    """Let Celery send these calls; kombu keeps a hundred and gives them to the broker at once if it can."""
    can_wait = getattr(producer, "supports_batch_publish", False) and is_from("celery.app.amqp", sender.send)
    for at in range(0, len(calls), AT_ONCE):
        some = calls[at : at + AT_ONCE]
        if can_wait and len(some) > 1 and _send_at_once(producer, bid, sender, some):
            continue
        for call in some:
            message = member_message(call, bid)
            call.sent = None  # safety: unknown-not-unsent
            sender.send(producer, call.name, message, **call.options)
            call.sent = True


def _send_at_once(producer: Any, bid: str, sender: Sender, calls: list[Call]) -> bool:
    """Send these calls at once; return False if each must be sent again by itself.

    Then one of them could not be sent, so the broker has none, or nobody knows which it has. In both cases
    kombu and Celery find out call by call, and try again as they always do.
    """
    try:
        with producer.batch():
            for call in calls:
                sender.send(producer, call.name, member_message(call, bid), **call.options)
            for call in calls:
                call.sent = None  # safety: unknown-not-unsent-at-once
    except SoftTimeLimitExceeded:  # safety: soft-limit-at-once
        raise
    except Exception:  # noqa: BLE001 - it comes again
        return False
    for call in calls:
        call.sent = True
    return True


class _Ways:
    """The ways that are faster than Celery's and serve here and now."""

    def __init__(self, sender: Sender, producer: Any, bid: str) -> None:
        self._sender = sender
        self._producer = producer
        self._bid = bid

    @cached_property
    def _where(self) -> tuple[Any, ...] | None:
        """What a way is good for, or None if Celery's is the only one here."""
        producer, connection = self._producer, self._producer.connection
        is_own = is_from("celery.app.amqp", self._sender.send) and is_from(
            "kombu.messaging", type(producer).publish
        )
        if not is_own or any(signal.receivers for signal in _LISTENED):
            return None
        try:
            kind = type(producer.channel)
        except connection.connection_errors:  # Celery's way tries again
            return None
        return connection.transport.driver_type, connection.hostname, connection.virtual_host, kind

    def of(self, call: Call) -> Stamp | Prepared | None:
        """Return the way of a call; at a template's first call, find out which one it is."""
        if not isinstance(call, TemplateCall) or self._where is None:
            return None
        template = call.template
        if template.way is None or template.way[0] != self._where:
            template.way = (self._where, self._find(call))
        found: Stamp | Prepared | None = template.way[1]
        return found

    def _find(self, call: TemplateCall) -> Stamp | Prepared | None:
        producer = self._producer
        is_known = is_from("kombu.transport.virtual.base", type(producer.channel).basic_publish)
        is_redis = producer.connection.transport.driver_type == "redis" and is_known
        for way in (Stamp, Prepared) if is_redis else (Prepared,):
            try:
                return way(self._sender.send, producer, self._bid, call)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the next slower way is right
                why = str(exc) if isinstance(exc, (NotStampable, NotPrepared)) else repr(exc)
                logger.info("messages of %s take a slower way than %s: %s", call.name, way.__name__, why)
        return None


def _publish_all(producer: Any, bid: str, ways: _Ways, calls: list[TemplateCall]) -> None:
    """Publish these calls one by one, and wait for confirms once for a thousand."""
    confirms = producer.connection.transport_options.get("confirm_publish")
    number = CONFIRMED_AT_ONCE if confirms else AT_ONCE
    for at in range(0, len(calls), number):
        way_of = {call: cast("Prepared", ways.of(call)) for call in calls[at : at + number]}
        policy = way_of[calls[at]].retry_policy
        ensure = producer.connection.ensure if policy is not None else lambda _, publish: publish
        ensure(producer, _publish, **policy or {})(producer, bid, way_of)


def _publish(producer: Any, bid: str, way_of: dict[TemplateCall, Prepared]) -> None:
    """Publish those of these calls that are not known to be sent."""
    calls = [call for call in way_of if not call.sent]
    for way in set(way_of.values()):
        way.declare(producer)
    channel = producer.channel
    if calls and waits_for_confirms(channel):
        publish_confirmed(channel, calls, lambda call: way_of[call].publish(channel, bid, call))
        return
    with writing_together(channel):
        for call in calls:
            call.sent = None  # safety: unknown-not-unsent-prepared
            way_of[call].publish(channel, bid, call)
    for call in calls:
        call.sent = True


def _push_all(producer: Any, bid: str, ways: _Ways, calls: list[TemplateCall]) -> None:
    """Push the messages of these calls to their lists, a hundred at once."""
    by_key: dict[str, list[TemplateCall]] = {}
    for _, run in groupby(calls, _template_of):
        of_template = list(run)
        by_key.setdefault(cast("Stamp", ways.of(of_template[0])).key, []).extend(of_template)
    line = Line(producer)
    for same in by_key.values():
        for at in range(0, len(same), AT_ONCE):
            _push(line, bid, ways, same[at : at + AT_ONCE])


def _push(line: Line, bid: str, ways: _Ways, calls: list[TemplateCall]) -> None:
    tags, payloads = _new_tags(len(calls)), list[str]()
    for _, run in groupby(calls, _template_of):
        of_template = list(run)
        stamp = cast("Stamp", ways.of(of_template[0]))
        at = len(payloads)
        payloads += stamp.write(bid, of_template, tags[at : at + len(of_template)])
    stamp.push(line, payloads, calls)


def _new_tags(number: int) -> list[str]:
    """Return delivery tags, which look like UUIDs and differ at their end."""
    head = new_ids(1)[0][:24]
    return [head + end for end in _TAG_ENDS[:number]]

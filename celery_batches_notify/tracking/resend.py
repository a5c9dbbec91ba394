"""What a retry of a dead member needs: its call as JSON, kept when it dies and published again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import EncodeError
from kombu.utils import json

from celery_batches_notify.block import Call, collecting
from celery_batches_notify.errors import CorruptBatch
from celery_batches_notify.forks import forks
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.model import Membership
from celery_batches_notify.store.corrupt import readable
from celery_batches_notify.store.retries import RETRY_CHUNK, Resend
from celery_batches_notify.store.store import Store
from celery_batches_notify.tracking.headers import read_request, write_header
from celery_batches_notify.tracking.sender import Sender

BYTES_AT_MOST = 16 * 1024
_OPTIONS = (
    "chain",
    "chord",
    "group_id",
    "group_index",
    "link",
    "link_error",
    "parent_id",
    "root_id",
    "shadow",
    "soft_time_limit",
    "time_limit",
)
logger = logging.getLogger(__name__)

_ROUTING = ("queue", "exchange", "routing_key", "priority")


def keep_call(request: Any, task: str) -> tuple[str, str]:
    """Return a call as JSON, or "" and why it cannot be sent again."""
    args, kwargs = getattr(request, "args", None), getattr(request, "kwargs", None)
    if args is None or kwargs is None or not getattr(request, "id", None):
        return "", "its arguments are not known here"
    as_options = getattr(request, "as_execution_options", None)
    options = as_options() if as_options else {}
    kept = {name: options[name] for name in _OPTIONS if options.get(name) is not None}
    routing = dict(getattr(request, "delivery_info", None) or {})
    if routing.get("exchange") == "" and routing.get("routing_key"):  # as Celery sends to a queue by its name
        routing = {"queue": routing["routing_key"], "priority": routing.get("priority")}
    kept |= {name: routing[name] for name in _ROUTING if routing.get(name) is not None}
    try:
        whole = {"id": request.id, "task": task, "args": list(args), "kwargs": kwargs, "options": kept}
        claim = read_request(request)
        if isinstance(claim, Membership) and claim.turn:  # it bears the id of what it replaced
            whole["turn"] = claim.turn
        call = json.dumps(whole)
    except (EncodeError, TypeError, ValueError, RecursionError):
        return "", "its arguments are not JSON"
    return (call, "") if len(call) <= BYTES_AT_MOST else ("", "its arguments are too long")


class Resender:
    """Publishes calls again, under their ids and places, in a new round."""

    def __init__(self, app: Celery, sender: Sender) -> None:
        self.app = app
        self._sender = sender

    def send(self, bid: str, members: Sequence[Resend]) -> None:
        """Publish these members once more. Raises what the broker raises."""
        with forks.waiting(), self.app.producer_or_acquire() as producer:
            for member in members:
                try:
                    with readable(bid):
                        kept = json.loads(member.call)
                        call, turn = self._message_of(kept), int(kept.get("turn", 0))
                except CorruptBatch as exc:
                    BatchLog(logger, bid=bid).error("member %d is not sent again: %s", member.index, exc)
                    continue
                place = Membership(
                    bid=bid, index=member.index, task_id=call.task_id, round=member.round, turn=turn
                )
                write_header(call.message.headers, place)
                self._sender.send(producer, call.name, call.message, **call.options)

    def _message_of(self, kept: dict[str, Any]) -> Call:
        """Let Celery make the message, and catch it on its way out."""
        with collecting(self.app) as calls:
            self.app.send_task(
                kept["task"],
                kept["args"],
                kept["kwargs"],
                task_id=kept["id"],
                add_to_parent=False,
                **kept["options"],
            )
        return calls[0]


def resend_left(store: Store, resender: Resender, bid: str) -> int:
    """Send the claimed members that were not sent yet, all of them; return how many."""
    left = store.read_unsent_retries(bid)
    for start in range(0, len(left), RETRY_CHUNK):
        chunk = left[start : start + RETRY_CHUNK]
        resender.send(bid, chunk)
        store.confirm_retries(bid, chunk, done=False)
    store.confirm_retries(bid, [], done=True)
    return len(left)

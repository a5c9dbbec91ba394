"""Send dead members again, from the calls kept as JSON when they died."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.utils import json

from celery_batches_notify.errors import CorruptBatch
from celery_batches_notify.fork_safety import forks
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.block import Call, collecting
from celery_batches_notify.messages.canvas import tag_message
from celery_batches_notify.messages.headers import write_header
from celery_batches_notify.messages.kept_messages import call_of, read_message
from celery_batches_notify.messages.sender import Sender
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.retries import KEPT, RETRY_CHUNK, Resend
from celery_batches_notify.store.store import Store

logger = logging.getLogger(__name__)


class Resender:
    """Publishes kept calls in a new round, under the same task ids and indexes."""

    def __init__(self, app: Celery, store: Store, sender: Sender) -> None:
        self.app = app
        self._store = store
        self._sender = sender

    def send(self, bid: str, members: Sequence[Resend]) -> None:
        """Publish these members again. Raises the broker's errors."""
        indexes = [member.index for member in members if member.call == KEPT]
        found = dict(zip(indexes, self._store.read_kept_calls(bid, indexes), strict=True))
        with forks.waiting(), self.app.producer_or_acquire() as producer:
            for member in members:
                beside = found.get(member.index)
                if member.call == KEPT and beside is None:
                    continue  # the member has succeeded meanwhile
                try:
                    with corrupt_errors(bid):
                        kept = json.loads(member.call if beside is None else read_message(beside))
                        call, turn = self._message_of(kept), int(kept.get("turn", 0))
                except CorruptBatch as exc:
                    BatchLog(logger, bid=bid).error("member %d is not sent again: %s", member.index, exc)
                    continue
                identity = Membership(
                    bid=bid, index=member.index, task_id=call.task_id, round=member.round, turn=turn
                )
                write_header(call.message.headers, identity)
                message = (
                    tag_message(call.name, call.message, identity) if "message" in kept else call.message
                )
                self._sender.send(producer, call.name, message, **call.options)

    def _message_of(self, kept: dict[str, Any]) -> Call:
        """Return the kept message, or let Celery build one and collect it before it is sent."""
        if "message" in kept:
            return call_of(kept)
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
    """Send all claimed members that were not sent yet; return their number."""
    left = store.read_unsent_retries(bid)
    for start in range(0, len(left), RETRY_CHUNK):
        chunk = left[start : start + RETRY_CHUNK]
        resender.send(bid, chunk)
        store.confirm_retries(bid, chunk, done=False)
    store.confirm_retries(bid, [], done=True)
    return len(left)

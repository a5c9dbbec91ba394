"""The message of a member: the call's own, and its batch."""

from __future__ import annotations

from typing import Any

from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.block import Call
from celery_batches_notify.messages.canvas import tag_message
from celery_batches_notify.messages.headers import write_header


def member_message(call: Call, bid: str) -> Any:
    """Return the message of a call that is a member of this batch."""
    member = Membership(bid=bid, index=call.index or 0, task_id=call.task_id)
    message = call.message
    write_header(message.headers, member)
    return tag_message(call.name, message, member)

"""A member's message, kept in the store as it was sent until the member has succeeded. Pure: no I/O."""

from __future__ import annotations

import zlib
from typing import Any

from celery.app.amqp import task_message
from kombu.utils import json

from celery_batches_notify.errors import InvalidCall
from celery_batches_notify.messages.block import Call
from celery_batches_notify.messages.kept_calls import is_json

KEPT_AT_MOST = 1024 * 1024
_NAMED = ("queue", "exchange")  # kombu's objects, which Celery finds again by their names


def keep_message(call: Call) -> bytes:
    """Pack a call so that it can be sent again.

    Raises:
        InvalidCall: Its arguments are not JSON, or it takes more than 1 MiB even compressed.
    """
    headers, properties, (args, kwargs, embed), _ = call.message
    body = [list(args), kwargs, embed]
    if not is_json(body):
        raise InvalidCall(
            f"{call.name}: keep_calls keeps each call as JSON, which would change these arguments: pass "
            "plain values, or leave keep_calls out"
        )
    options = {name: value for name, value in map(_named, call.options.items()) if is_json(value)}
    kept = {"name": call.name, "message": [headers, properties, body], "options": options}
    packed = zlib.compress(json.dumps(kept).encode())
    if len(packed) > KEPT_AT_MOST:
        raise InvalidCall(
            f"{call.name}: keep_calls keeps calls of up to {KEPT_AT_MOST:,} bytes when compressed, got "
            f"{len(packed):,}: pass an id by which the task finds the rest, or leave keep_calls out"
        )
    return packed


def read_message(packed: bytes) -> str:
    """Unpack a kept call to JSON. Raises `ValueError` if `keep_message` did not pack it."""
    try:
        return zlib.decompress(packed).decode()
    except zlib.error as exc:
        raise ValueError(f"the kept call cannot be unpacked: {exc}") from exc


def call_of(kept: dict[str, Any]) -> Call:
    """Return the call as it was collected; the caller must write its header."""
    headers, properties, (args, kwargs, embed) = kept["message"]
    message = task_message(headers, properties, (args, kwargs, embed), None)
    return Call(task_id=headers["id"], name=kept["name"], message=message, options=kept["options"])


def _named(option: tuple[str, Any]) -> tuple[str, Any]:
    name, value = option
    return name, getattr(value, "name", value) if name in _NAMED else value

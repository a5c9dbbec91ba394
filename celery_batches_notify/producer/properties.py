"""The properties of messages as py-amqp writes them, cut where one differs from another. Pure: no I/O.

Writing the headers takes py-amqp half the time of a message, because it packs each of them in Python.
"""

from __future__ import annotations

from struct import pack
from typing import Any

from amqp.serialization import dumps

from celery_batches_notify.messages.celerys_own import is_from
from celery_batches_notify.messages.headers import HEADER
from celery_batches_notify.messages.templates import TemplateCall
from celery_batches_notify.producer.cutting import cut

LARGEST_INDEX = 2**31 - 1  # a greater one takes eight bytes


class Properties:
    """Writes the properties of a template's messages.

    Args:
        message: A message of py-amqp.
        bid: Its batch.
        model: Its call, made by `make_model`.

    Raises:
        Exception: Somebody else writes the message, or a part of the call is not in it.
    """

    def __init__(self, message: Any, bid: str, model: TemplateCall) -> None:
        if not is_from("amqp.serialization", type(message)._serialize_properties):
            raise TypeError("somebody else writes its properties")
        headers = message.properties["application_headers"]
        table, member = dumps("F", (headers,)), dumps("F", (headers[HEADER],))
        before, table, after = message._serialize_properties().partition(table)
        places = _long(model.task_id), _long(model.args_repr), _long(model.kwargs_repr), member
        self._before = before
        shared, self._order = cut(table[4:], places)
        self._parts = [b""] * (2 * len(shared) - 1)
        self._parts[::2] = shared
        self._after, _ = cut(after, [_short(model.task_id)])
        # The header without the number of its index, which is its last part.
        self._member = dumps("F", ({**headers[HEADER], "index": 0},))[:-4].split(_long(bid))

    def write(self, bid: str, call: TemplateCall) -> bytes | None:
        """Return the properties of the message of a call, or None if only py-amqp can write them."""
        if call.index is None or call.index > LARGEST_INDEX:
            return None
        member = _long(bid).join(self._member) + pack(">i", call.index)
        columns = _long(call.task_id), _long(call.args_repr), _long(call.kwargs_repr), member
        parts = self._parts.copy()
        parts[1::2] = [columns[place] for place in self._order]
        table = b"".join(parts)
        return b"".join((self._before, pack(">I", len(table)), table, _short(call.task_id).join(self._after)))


def _long(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return pack(">I", len(data)) + data


def _short(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return pack("B", len(data)) + data

"""The properties of a message are those that py-amqp writes, whatever differs from call to call."""

from __future__ import annotations

from typing import Any

import amqp
import pytest

from celery_batches_notify.messages.ids import new_ids
from celery_batches_notify.messages.templates import TemplateCall
from celery_batches_notify.producer.properties import LARGEST_INDEX, Properties

BID = "b" * 22


def _call(task_id: str, args: str, kwargs: str, index: int | None) -> TemplateCall:
    call = TemplateCall(None, task_id, b"", args, kwargs)  # type: ignore[arg-type]
    call.index = index
    return call


def _message(bid: str, call: TemplateCall, **more: Any) -> amqp.Message:
    headers = {
        "lang": "py",
        "id": call.task_id,
        "root_id": call.task_id,
        "timelimit": [None, 5.5],
        "argsrepr": call.args_repr,
        "kwargsrepr": call.kwargs_repr,
        "stamps": {},
        "batches": {"bid": bid, "index": call.index},
        "after": None,
    }
    return amqp.Message(
        b"",
        priority=0,
        content_type="application/json",
        application_headers=headers,
        correlation_id=call.task_id,
        delivery_mode=2,
        **more,
    )


@pytest.fixture
def properties() -> Properties:
    model = _call(*new_ids(3), 918_273_645_564_738)
    return Properties(_message(BID, model, reply_to="me"), BID, model)


@pytest.mark.parametrize(
    ("task_id", "args"),
    [
        (new_ids(1)[0], "(7,)"),
        ("mine", ""),
        ("é" * 100, "('😀\ud800',)"),
        ("x" * 255, "y" * 70_000),
        ("batches", "index"),
    ],
    ids=["uuid", "short", "letters", "long", "names"],
)
@pytest.mark.parametrize("index", [0, 1, 255, 256, LARGEST_INDEX])
def test_properties_are_those_that_py_amqp_writes(
    properties: Properties, task_id: str, args: str, index: int
) -> None:
    for bid in (BID, "c" * 22):
        call = _call(task_id, args, "{'x': 1}", index)
        theirs = _message(bid, call, reply_to="me")._serialize_properties()
        assert properties.write(bid, call) == theirs


@pytest.mark.parametrize("index", [None, LARGEST_INDEX + 1])
def test_an_index_of_more_bytes_is_left_to_py_amqp(properties: Properties, index: int | None) -> None:
    assert properties.write(BID, _call("mine", "", "", index)) is None


def test_a_message_that_lacks_a_part_has_no_properties_here() -> None:
    model = _call(*new_ids(3), 5)
    message = _message(BID, model)
    model.kwargs_repr = "elsewhere"
    with pytest.raises(ValueError, match="missing"):
        Properties(message, BID, model)


def test_a_message_that_somebody_else_writes_has_no_properties_here() -> None:
    class Own(amqp.Message):
        def _serialize_properties(self) -> bytes:
            return super()._serialize_properties()

    model = _call(*new_ids(3), 5)
    message = Own(b"", **_message(BID, model).properties)
    with pytest.raises(TypeError):
        Properties(message, BID, model)

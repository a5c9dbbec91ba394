"""What a worker says of a task that it holds: written by the worker, read when it is lost. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery.app.task import Context
from kombu import serialization

from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.headers import HEADER, DeliveryRef, Headers, mark_of, read_header
from celery_batches_notify.messages.kept_calls import (
    BYTES_AT_MOST,
    HEADERS_NOT_JSON,
    TOO_LONG,
    is_json,
    keep_call,
)
from celery_batches_notify.store.workers import pack_mark, parse_mark, task_of

JSON = "application/json"
NOT_KEPT = "not kept"
_KEPT = (
    HEADER,
    "task",
    "retries",
    "root_id",
    "parent_id",
    "group",
    "group_index",
    "shadow",
    "timelimit",
    "delivery_info",
)
_KEPT_IF_SET = ("ignore_result", "replaced_task_nesting", "stamped_headers", "stamps")
# Whatever else stands in a message's headers, somebody else wrote there.
_CELERYS = {*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression", HEADER}


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """One task that a worker held.

    Attributes:
        task_id: The task.
        claim: Which member or delivery its message claims to be.
        task: The task's name.
        retries: The number of attempts before this one.
        went_on: Whether its retry or replacement has left: the membership is in that message's hands.
        successors: The late members that it has published.
        request: The request, from which it can be sent again; None where that is not kept.
        unsendable: Why it is not kept.
    """

    task_id: str
    claim: Membership | DeliveryRef
    task: str
    retries: int
    went_on: bool = False
    successors: tuple[Membership, ...] = ()
    request: Context | None = None
    unsendable: str = ""

    @property
    def call(self) -> tuple[str, str]:
        """The call as JSON, or "" and why it cannot be sent again."""
        return keep_call(self.request, self.task) if self.request is not None else ("", self.unsendable)


def field_of(task_id: str, mark: Headers, nesting: object, retries: object) -> str:
    """Under what a task is noted: every run has a place of its own, but that repeats of one share it."""
    return f"{task_id} {mark.get('round', 0)}.{mark.get('turn', 0)}.{nesting or 0}.{retries or 0}"


def write_in_flight(request: Any, *, keep: bool) -> bytes:
    """What a worker's main process says of a message; `keep` with what sending it again needs."""
    headers = request.request_dict
    head = {name: headers[name] for name in _KEPT if headers.get(name) is not None}
    if not keep:
        return pack_mark(head | {"unsendable": NOT_KEPT}, b"")
    head |= {name: headers[name] for name in _KEPT_IF_SET if headers.get(name)}
    if foreign := _foreign(headers):
        if not is_json(foreign):
            return pack_mark(head | {"unsendable": HEADERS_NOT_JSON}, b"")
        head["headers"] = foreign
    body = request.body
    body = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
    if len(body) > BYTES_AT_MOST:
        return pack_mark(head | {"unsendable": TOO_LONG}, b"")
    head["type"], head["encoding"] = request.content_type, request.content_encoding
    return pack_mark(head, body)


def _foreign(headers: Headers) -> Headers:
    """Return what neither Celery nor we wrote: an inner `headers` hides the rest, as it does in a retry."""
    inner = headers.get("headers")
    return inner if isinstance(inner, dict) else {k: v for k, v in headers.items() if k not in _CELERYS}


def write_note(member: Membership, request: Any, *, went_on: bool, sent: tuple[Membership, ...]) -> bytes:
    """What a running task says once its retry, or successors of it, have left: it is not to be sent again."""
    head = {HEADER: mark_of(member), "task": request.task, "retries": request.retries or 0}
    if went_on:
        return pack_mark(head | {"went_on": True}, b"")
    successors = [[each.task_id, mark_of(each)] for each in sent]
    return pack_mark(head | {"successors": successors, "unsendable": "its canvas had gone on"}, b"")


def read_in_flight(field: str, stored: bytes) -> InFlight | None:
    """Read what was noted; None where it claims what it may not. Raises `ValueError` or `TypeError`."""
    head, body = parse_mark(stored)
    task_id = task_of(field)
    claim, retries = read_header(head.get(HEADER), task_id), head.get("retries", 0)
    if claim is None or type(retries) is not int:
        return None
    sent = [read_header(mark, each_id) for each_id, mark in head.get("successors", ())]
    return InFlight(
        task_id=task_id,
        claim=claim,
        task=str(head.get("task")),
        retries=retries,
        went_on=bool(head.get("went_on")),
        successors=tuple(each for each in sent if isinstance(each, Membership)),
        request=_read_request(task_id, head, body) if body else None,
        unsendable=str(head.get("unsendable", NOT_KEPT)),
    )


def _read_request(task_id: str, head: Mapping[str, Any], body: bytes) -> Context | None:
    """Read the message if it is JSON: nothing from the store is unpickled, though the app takes pickle."""
    try:
        args, kwargs, embed = serialization.loads(body, head["type"], head["encoding"], accept={JSON})
        message = {**head, **(embed or {}), "id": task_id, "args": args, "kwargs": kwargs}
        return Context({**message, "headers": head.get("headers", {})})
    except Exception:  # noqa: BLE001 - a foreign decoder may raise anything; then it is not sent again
        return None

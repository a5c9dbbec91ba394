"""Records of tasks in flight: a worker writes them, and others read them if it is lost. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery.app.task import Context
from kombu import serialization

from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.headers import HEADER, DeliveryRef, Headers, header_of, read_header
from celery_batches_notify.messages.kept_calls import (
    BYTES_AT_MOST,
    HEADERS_NOT_JSON,
    TOO_LONG,
    is_json,
    keep_call,
)
from celery_batches_notify.store.workers import pack_record, parse_record, task_of

JSON = "application/json"
NOT_KEPT = "not kept"
WENT_ON = "its canvas had gone on"
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
# Every other header of a message comes from the user, or from another library.
_CELERYS = {*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression", HEADER}


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """One task that a worker had received and not finished.

    Attributes:
        task_id: The task's id.
        identity: Which member or delivery its message is.
        task: The task's name.
        retries: The number of attempts before this one.
        went_on: Its retry or replacement has left, and carries the membership on.
        successors: The successors that it has published.
        request: The request, to send it again; None if it was not kept.
        unsendable: Why it was not kept.
    """

    task_id: str
    identity: Membership | DeliveryRef
    task: str
    retries: int
    went_on: bool = False
    successors: tuple[Membership, ...] = ()
    request: Context | None = None
    unsendable: str = ""

    @property
    def call(self) -> tuple[str, str]:
        """Return the call as JSON, or "" and why it cannot be sent again."""
        return keep_call(self.request, self.task) if self.request is not None else ("", self.unsendable)


def field_of(task_id: str, header: Headers, nesting: object, retries: object) -> str:
    """Return the hash field of one run of a task. Redeliveries of the same run share a field."""
    return f"{task_id} {header.get('round', 0)}.{header.get('turn', 0)}.{nesting or 0}.{retries or 0}"


def write_in_flight(request: Any, *, keep: bool) -> bytes:
    """Return a message's record, with what sending it again needs if `keep` is true."""
    headers = request.request_dict
    head = {name: headers[name] for name in _KEPT if headers.get(name) is not None}
    if not keep:
        return pack_record(head | {"unsendable": NOT_KEPT}, b"")
    head |= {name: headers[name] for name in _KEPT_IF_SET if headers.get(name)}
    if foreign := _foreign(headers):
        if not is_json(foreign):
            return pack_record(head | {"unsendable": HEADERS_NOT_JSON}, b"")
        head["headers"] = foreign
    body = request.body
    body = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
    if len(body) > BYTES_AT_MOST:
        return pack_record(head | {"unsendable": TOO_LONG}, b"")
    head["type"], head["encoding"] = request.content_type, request.content_encoding
    return pack_record(head, body)


def _foreign(headers: Headers) -> Headers:
    """Return the headers that are not Celery's or ours; inner ones hide the others, as in a retry."""
    inner = headers.get("headers")
    return inner if isinstance(inner, dict) else {k: v for k, v in headers.items() if k not in _CELERYS}


def write_note(member: Membership, request: Any, *, went_on: bool, sent: tuple[Membership, ...]) -> bytes:
    """Return the record of a running task whose retry or successors have left: it cannot be sent again."""
    head = {HEADER: header_of(member), "task": request.task, "retries": request.retries or 0}
    if went_on:
        return pack_record(head | {"went_on": True}, b"")
    successors = [[each.task_id, header_of(each)] for each in sent]
    return pack_record(head | {"successors": successors, "unsendable": WENT_ON}, b"")


def read_in_flight(field: str, stored: bytes) -> InFlight | None:
    """Read a record; return None if its header is not valid. Raises `ValueError` or `TypeError`."""
    head, body = parse_record(stored)
    task_id = task_of(field)
    identity, retries = read_header(head.get(HEADER), task_id), head.get("retries", 0)
    if identity is None or type(retries) is not int:
        return None
    sent = [read_header(header, each_id) for each_id, header in head.get("successors", ())]
    return InFlight(
        task_id=task_id,
        identity=identity,
        task=str(head.get("task")),
        retries=retries,
        went_on=bool(head.get("went_on")),
        successors=tuple(each for each in sent if isinstance(each, Membership)),
        request=_read_request(task_id, head, body) if body else None,
        unsendable=str(head.get("unsendable", NOT_KEPT)),
    )


def _read_request(task_id: str, head: Mapping[str, Any], body: bytes) -> Context | None:
    """Read the message if it is JSON. Nothing from the store is unpickled, even if the app accepts pickle."""
    try:
        args, kwargs, embed = serialization.loads(body, head["type"], head["encoding"], accept={JSON})
        message = {**head, **(embed or {}), "id": task_id, "args": args, "kwargs": kwargs}
        return Context({**message, "headers": head.get("headers", {})})
    except Exception:  # noqa: BLE001 - a decoder may raise anything
        return None

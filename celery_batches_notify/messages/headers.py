"""The `batches` header: which member or delivery a message is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from celery import Celery

from celery_batches_notify.checks import check_bid
from celery_batches_notify.errors import InvalidBid
from celery_batches_notify.membership import Membership

Headers = dict[str, Any]

HEADER = "batches"
DELIVER_TASK = "celery_batches_notify.deliver"
ENTRY = re.compile(r"[a-z]+:[0-9]{1,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRef:
    """The delivery that a callback's message is, and the claim that published it (0: unknown)."""

    bid: str
    entry: str
    number: int = 0


def read_header(value: object, task_id: str | None) -> Membership | DeliveryRef | None:
    """Return which member or delivery the task with this id is; None if its header is not valid for it."""
    if not isinstance(value, dict) or not isinstance(task_id, str):
        return None
    try:
        bid = check_bid(value.get("bid"))
    except InvalidBid:
        return None
    if "delivery" not in value:
        return _read_member(bid, value, task_id)
    entry, number = value["delivery"], value.get("claim", 0)
    # safety: callback-own-id
    if isinstance(entry, str) and ENTRY.fullmatch(entry) and task_id == callback_id(bid, entry):
        # safety: overtaken-number
        return DeliveryRef(bid=bid, entry=entry, number=number) if _is_count(number) else None
    return None


def is_delivery(value: object, task_id: str) -> bool:
    """Return whether the task with this id is a callback. It does not read members' headers."""
    return isinstance(value, dict) and "delivery" in value and read_header(value, task_id) is not None


def has_header(request: Any) -> bool:
    """Return whether a running task may be a member or a callback. Most tasks are neither."""
    return vars(request).get(HEADER) is not None or HEADER in (request.headers or ())


def read_request(request: Any) -> Membership | DeliveryRef | None:
    """Return which member or delivery a request is; an eager call has our header among its `headers` only."""
    return read_header(getattr(request, HEADER, None) or (request.headers or {}).get(HEADER), request.id)


def callback_id(bid: str, entry: str) -> str:
    """Return the id of a callback, which is the same however often it is sent."""
    return f"cb_{bid}_{entry.replace(':', '_')}"  # safety: callback-same-id


def header_of(identity: Membership | DeliveryRef) -> Headers:
    """Return the header of a member's message, or of a callback's."""
    if isinstance(identity, DeliveryRef):
        number = {"claim": identity.number} if identity.number else {}
        return {"bid": identity.bid, "delivery": identity.entry} | number
    header: Headers = {"bid": identity.bid}
    if identity.index is not None:
        header |= {"index": identity.index} | ({"round": identity.round} if identity.round else {})
    else:
        header |= {"late": True} | ({"of": list(identity.of)} if identity.of is not None else {})
    return header | ({"turn": identity.turn} if identity.turn else {})


def _read_member(bid: str, value: Headers, task_id: str) -> Membership | None:
    index, round_, turn = value.get("index"), value.get("round", 0), value.get("turn", 0)
    if not (_is_count(round_) and _is_count(turn)):
        return None
    if value.get("late") is not True:
        if not _is_count(index):
            return None
        return Membership(bid=bid, index=index, task_id=task_id, round=round_, turn=turn)
    match value.get("of"):
        case None:
            return Membership(bid=bid, index=None, task_id=task_id, turn=turn)
        case [int(first), str(first_id)] if _is_count(first):
            return Membership(bid=bid, index=None, task_id=task_id, of=(first, first_id), turn=turn)
    return None


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def write_header(headers: Headers, identity: Membership | DeliveryRef) -> None:
    """Write our header into a message, and into an inner `headers` if a library such as Sentry put one there.

    Celery's retry keeps only the inner one.
    """
    headers[HEADER] = header_of(identity)
    if isinstance(headers.get("headers"), dict):
        headers["headers"] = {**headers["headers"], HEADER: headers[HEADER]}


def strip_header(headers: Headers) -> None:
    """Remove our header from a message that is not a member's: it was passed on with other headers.

    A header of the user's own under the same name stays.
    """
    if _is_ours(headers.get(HEADER)):
        del headers[HEADER]
    inner = headers.get("headers")
    if isinstance(inner, dict) and _is_ours(inner.get(HEADER)):
        headers["headers"] = {k: v for k, v in inner.items() if k != HEADER}


def _is_ours(value: object) -> bool:
    return isinstance(value, dict) and "bid" in value


def current_member(app: Celery) -> Membership | None:
    """Return the member that this thread is running, or None."""
    task = app.current_worker_task
    identity = read_request(task.request) if task else None
    return identity if isinstance(identity, Membership) else None

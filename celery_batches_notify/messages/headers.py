"""What a message says about its batch: reading and writing the `batches` header."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from celery import Celery

from celery_batches_notify.errors import InvalidBid
from celery_batches_notify.membership import Membership
from celery_batches_notify.model import check_bid

Headers = dict[str, Any]

HEADER = "batches"
DELIVER_TASK = "celery_batches_notify.deliver"
ENTRY = re.compile(r"[a-z]+:[0-9]{1,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRef:
    """Which delivery a callback's message is, and the claim that it was published under (0: unknown)."""

    bid: str
    entry: str
    number: int = 0


def read_header(value: object, task_id: str | None) -> Membership | DeliveryRef | None:
    """Read the header of the task with this id; None where it claims nothing, or nothing it may claim."""
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


def read_request(request: Any) -> Membership | DeliveryRef | None:
    """Read which member or delivery a task's request is; an eager call has that among its `headers` only."""
    return read_header(getattr(request, HEADER, None) or (request.headers or {}).get(HEADER), request.id)


def callback_id(bid: str, entry: str) -> str:
    """The id of a callback, the same however often it is sent."""
    return f"cb_{bid}_{entry.replace(':', '_')}"  # safety: callback-same-id


def mark_of(claim: Membership | DeliveryRef) -> Headers:
    """What the header of a member's message says, or of a callback's."""
    if isinstance(claim, DeliveryRef):
        number = {"claim": claim.number} if claim.number else {}
        return {"bid": claim.bid, "delivery": claim.entry} | number
    return _mark_of_member(claim)


def _mark_of_member(member: Membership) -> Headers:
    mark: Headers = {"bid": member.bid}
    if member.index is not None:
        mark |= {"index": member.index} | ({"round": member.round} if member.round else {})
    else:
        mark |= {"late": True} | ({"of": list(member.of)} if member.of is not None else {})
    return mark | ({"turn": member.turn} if member.turn else {})


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


def write_header(headers: Headers, claim: Membership | DeliveryRef) -> None:
    """Mark a message as a member's, or as a callback's.

    Where somebody (Sentry) put an inner `headers` into it, Celery's retry keeps only that one.
    """
    headers[HEADER] = mark_of(claim)
    if isinstance(headers.get("headers"), dict):
        headers["headers"] = {**headers["headers"], HEADER: headers[HEADER]}


def strip_header(headers: Headers) -> None:
    """Take our header off a message that is nobody's member: somebody passed on another message's headers.

    A header of the user's own that bears the same name stays.
    """
    if _is_ours(headers.get(HEADER)):
        del headers[HEADER]
    inner = headers.get("headers")
    if isinstance(inner, dict) and _is_ours(inner.get(HEADER)):
        headers["headers"] = {k: v for k, v in inner.items() if k != HEADER}


def _is_ours(value: object) -> bool:
    return isinstance(value, dict) and "bid" in value


def current_member(app: Celery) -> Membership | None:
    """The member that this thread is running, or None."""
    task = app.current_worker_task
    claim = read_request(task.request) if task else None
    return claim if isinstance(claim, Membership) else None

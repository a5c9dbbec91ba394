"""What stands in the spool: JSON, one line per outcome or settlement, checked when it is read. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from celery_batches_notify.checks import check_bid
from celery_batches_notify.log_lines import Fields
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.messages.headers import ENTRY
from celery_batches_notify.model import DeliveryNote, Failure

HAPPENED = ("due", "delivered", "given_up", "lost", "retried")
NUMBER_AT_MOST = 2**31


class UnreadableLine(ValueError):
    """A line of the spool is not one that we write: torn, of another version, or somebody else's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An outcome that waits to be counted."""

    member: Membership
    outcome: Outcome

    @property
    def bid(self) -> str:
        """The batch."""
        return self.member.bid

    @property
    def name(self) -> str:
        """How a log line names it."""
        return f"the outcome of task {self.member.task_id}"

    @property
    def fields(self) -> Fields:
        """What a log line about it has in its fields."""
        return {"task_id": self.member.task_id, "state": self.outcome.state.name.lower()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of a delivery, and waits to be noted."""

    bid: str
    entry: str
    happened: str
    delay_seconds: float = 0
    note: DeliveryNote | None = None
    number: int = 0

    @property
    def name(self) -> str:
        """How a log line names it."""
        return f"the outcome of callback {self.entry}"

    @property
    def fields(self) -> Fields:
        """What a log line about it has in its fields."""
        return {"delivery": self.entry, "state": self.happened}


Message = Report | Settlement


def pack_line(said: Message) -> bytes:
    """Write one line, without its end."""
    if isinstance(said, Settlement):
        line: dict[str, Any] = {"v": 1, "settlement": asdict(said)}
    elif said.outcome.successors or said.outcome.body:
        line = {"v": 2, "report": _pack_canvas(said)}
    else:
        line = {"v": 1, "report": asdict(said)}
    return json.dumps(line, separators=(",", ":")).encode()


def _pack_canvas(said: Report) -> dict[str, Any]:
    """A report that names others: most of them by their ids alone, because they may be very many."""
    member, outcome = said.member, replace(said.outcome, successors=(), body=())
    names = {
        "successors": [_pack_late(member, each) for each in said.outcome.successors],
        "body": [_pack_late(member, each) for each in said.outcome.body],
    }
    return {"member": asdict(member), "outcome": asdict(outcome) | names}


def _pack_late(member: Membership, each: Membership) -> str | dict[str, Any]:
    return each.task_id if each == _late(member, each.task_id) else asdict(each)  # safety: short-record


def _late(member: Membership, task_id: str) -> Membership:
    """Return the late member with this id that goes on with the canvas of another one."""
    return Membership(bid=member.bid, index=None, task_id=task_id, of=member.origin)


def parse_line(line: bytes) -> Message:
    """Read one line; it is believed as little as a message is.

    Raises:
        UnreadableLine: It is none of ours.
    """
    try:
        match json.loads(line):
            case {"v": 1 | 2, "report": {"member": dict(said), "outcome": dict(outcome), **rest}} if not rest:
                member = _membership(said)
                return Report(member=member, outcome=_outcome(outcome, member))
            case {"v": 1, "settlement": dict(settlement)}:
                return _settlement(settlement)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as exc:
        raise UnreadableLine(f"{type(exc).__name__}: {exc}"[:200]) from None
    raise UnreadableLine("it is of no kind and version that this process knows")


def _membership(said: dict[str, Any]) -> Membership:
    of = said["of"]
    return Membership(
        bid=check_bid(said["bid"]),
        index=_number(said["index"]) if said["index"] is not None else None,
        task_id=_text(said["task_id"]),
        round=_number(said["round"]),
        of=(_number(of[0]), _text(of[1])) if of is not None else None,
        turn=_number(said["turn"]),
    )


def _outcome(said: dict[str, Any], member: Membership) -> Outcome:
    state = State(_number(said["state"]))
    if state == State.WAITING:
        raise ValueError("waiting is no outcome")
    return Outcome(
        state=state,
        attempt=_number(said["attempt"]),
        reason=_text_or_none(said["reason"]),
        failure=_failure(said["failure"]) if said["failure"] is not None else None,
        resend=_text(said["resend"]),
        unsendable=_text(said["unsendable"]),
        successors=_members(said["successors"], member),
        body=_members(said["body"], member),
        breaks_chord=said["breaks_chord"] is True,
    )


def _members(said: Sequence[str | dict[str, Any]], member: Membership) -> tuple[Membership, ...]:
    """Read those that a report names: in lines of version 1 each of them says all there is of it."""
    return tuple(_late(member, each) if isinstance(each, str) else _membership(each) for each in said)


def _failure(said: dict[str, Any]) -> Failure:
    return Failure(
        task_id=_text(said["task_id"]),
        task=_text(said["task"]),
        error_class=_text(said["error_class"]),
        error_message=_text(said["error_message"]),
        backtrace=_text_or_none(said["backtrace"]),
        retries=_number(said["retries"]),
    )


def _settlement(said: dict[str, Any]) -> Settlement:
    entry, happened, delay, note = (said[name] for name in ("entry", "happened", "delay_seconds", "note"))
    if not ENTRY.fullmatch(_text(entry)) or happened not in HAPPENED:
        raise ValueError(f"no such delivery or end: {entry!r}, {happened!r}"[:100])
    return Settlement(
        bid=check_bid(said["bid"]),
        entry=entry,
        happened=happened,
        delay_seconds=_number(int(delay)),
        note=_note(note) if note is not None else None,
        number=_number(said.get("number", 0)),
    )


def _note(said: dict[str, Any]) -> DeliveryNote:
    code = said["status_code"]
    return DeliveryNote(
        channel=_text(said["channel"]),
        detail=_text(said["detail"]),
        status_code=_number(code) if code is not None else None,
    )


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < NUMBER_AT_MOST:
        raise ValueError(f"no number that stands here: {value!r}"[:100])
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text: {value!r}"[:100])
    return value


def _text_or_none(value: object) -> str | None:
    return _text(value) if value is not None else None

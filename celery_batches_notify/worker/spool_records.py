"""The spool's lines: JSON, one per outcome or settlement, checked when it is read. Pure: no I/O."""

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
    """A line of the spool is torn, of another version, or was written by something else."""


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
        """Its name in log lines."""
        return f"the outcome of task {self.member.task_id}"

    @property
    def fields(self) -> Fields:
        """The fields of a log line about it."""
        return {"task_id": self.member.task_id, "state": self.outcome.state.name.lower()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What happened to a delivery, waiting to be recorded."""

    bid: str
    entry: str
    happened: str
    delay_seconds: float = 0
    note: DeliveryNote | None = None
    number: int = 0

    @property
    def name(self) -> str:
        """Its name in log lines."""
        return f"the outcome of callback {self.entry}"

    @property
    def fields(self) -> Fields:
        """The fields of a log line about it."""
        return {"delivery": self.entry, "state": self.happened}


Message = Report | Settlement


def pack_line(message: Message) -> bytes:
    """Return a message as one line, without its end."""
    if isinstance(message, Settlement):
        line: dict[str, Any] = {"v": 1, "settlement": asdict(message)}
    elif message.outcome.successors or message.outcome.body:
        line = {"v": 2, "report": _pack_canvas(message)}
    else:
        line = {"v": 1, "report": asdict(message)}
    return json.dumps(line, separators=(",", ":")).encode()


def _pack_canvas(report: Report) -> dict[str, Any]:
    """Pack a report with successors: most of them by their ids alone, because there may be very many."""
    member, outcome = report.member, replace(report.outcome, successors=(), body=())
    names = {
        "successors": [_pack_named(member, each) for each in report.outcome.successors],
        "body": [_pack_named(member, each) for each in report.outcome.body],
    }
    return {"member": asdict(member), "outcome": asdict(outcome) | names}


def _pack_named(member: Membership, each: Membership) -> str | dict[str, Any]:
    return each.task_id if each == _successor(member, each.task_id) else asdict(each)  # safety: short-record


def _successor(member: Membership, task_id: str) -> Membership:
    """Return the successor with this id of a member, as an untagged message makes it."""
    return Membership(bid=member.bid, index=None, task_id=task_id, of=member.origin)


def parse_line(line: bytes) -> Message:
    """Parse one line, and check all of it.

    Raises:
        UnreadableLine: This version does not write such lines.
    """
    try:
        match json.loads(line):
            case {"v": 1 | 2, "report": {"member": dict(member), "outcome": dict(outcome), **rest}} if (
                not rest
            ):
                reported = _membership(member)
                return Report(member=reported, outcome=_outcome(outcome, reported))
            case {"v": 1, "settlement": dict(settlement)}:
                return _settlement(settlement)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as exc:
        raise UnreadableLine(f"{type(exc).__name__}: {exc}"[:200]) from None
    raise UnreadableLine("this process does not know its kind or version")


def _membership(fields: dict[str, Any]) -> Membership:
    of = fields["of"]
    return Membership(
        bid=check_bid(fields["bid"]),
        index=_number(fields["index"]) if fields["index"] is not None else None,
        task_id=_text(fields["task_id"]),
        round=_number(fields["round"]),
        of=(_number(of[0]), _text(of[1])) if of is not None else None,
        turn=_number(fields["turn"]),
    )


def _outcome(fields: dict[str, Any], member: Membership) -> Outcome:
    state = State(_number(fields["state"]))
    if state == State.WAITING:
        raise ValueError("an outcome must not be WAITING")
    return Outcome(
        state=state,
        attempt=_number(fields["attempt"]),
        reason=_text_or_none(fields["reason"]),
        failure=_failure(fields["failure"]) if fields["failure"] is not None else None,
        resend=_text(fields["resend"]),
        unsendable=_text(fields["unsendable"]),
        successors=_members(fields["successors"], member),
        body=_members(fields["body"], member),
        breaks_chord=fields["breaks_chord"] is True,
    )


def _members(named: Sequence[str | dict[str, Any]], member: Membership) -> tuple[Membership, ...]:
    """Parse the members that a report names. Lines of version 1 hold each of them in full."""
    return tuple(_successor(member, each) if isinstance(each, str) else _membership(each) for each in named)


def _failure(fields: dict[str, Any]) -> Failure:
    return Failure(
        task_id=_text(fields["task_id"]),
        task=_text(fields["task"]),
        error_class=_text(fields["error_class"]),
        error_message=_text(fields["error_message"]),
        backtrace=_text_or_none(fields["backtrace"]),
        retries=_number(fields["retries"]),
    )


def _settlement(fields: dict[str, Any]) -> Settlement:
    entry, happened, delay, note = (fields[name] for name in ("entry", "happened", "delay_seconds", "note"))
    if not ENTRY.fullmatch(_text(entry)) or happened not in HAPPENED:
        raise ValueError(f"unknown delivery or event: {entry!r}, {happened!r}"[:100])
    return Settlement(
        bid=check_bid(fields["bid"]),
        entry=entry,
        happened=happened,
        delay_seconds=_number(int(delay)),
        note=_note(note) if note is not None else None,
        number=_number(fields.get("number", 0)),
    )


def _note(fields: dict[str, Any]) -> DeliveryNote:
    code = fields["status_code"]
    return DeliveryNote(
        channel=_text(fields["channel"]),
        detail=_text(fields["detail"]),
        status_code=_number(code) if code is not None else None,
    )


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < NUMBER_AT_MOST:
        raise ValueError(f"must be an int from 0 to {NUMBER_AT_MOST - 1}, got {value!r}"[:100])
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"must be a string, got {value!r}"[:100])
    return value


def _text_or_none(value: object) -> str | None:
    return _text(value) if value is not None else None
